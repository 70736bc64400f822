"""A packed log made in memory: small histories whose every number a test can work out by hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from seqrec_cli.data.batching import Batching
from seqrec_cli.data.catalog import Attribute, Catalog
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.negatives import SeenItems, draw_unseen
from seqrec_cli.data.splits import held_out, leave_last
from seqrec_cli.data.view import LabelledRows


def batching(size: int, seed: int = 0, bucket_by_length: bool = True, tokens: int | None = None) -> Batching:
    return Batching(size, seed, bucket_by_length, tokens)


def packed(
    histories: Sequence[Sequence[int]], num_items: int, times: bool = True, click_negatives: int = 0, seed: int = 0
) -> PackedLog:
    """Users' item histories as a log, a minute between events; with fixed click candidates where asked for."""
    lengths = [len(h) for h in histories]
    offsets_U1 = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items_N = np.concatenate([np.asarray(h, np.int32) for h in histories])
    rng = np.random.default_rng(seed)
    color_V1 = np.concatenate([[[0]], rng.integers(1, 4, (num_items, 1))]).astype(np.int32)
    kind_U1 = np.concatenate([[[0]], rng.integers(1, 3, (len(lengths), 1))]).astype(np.int32)
    catalog = Catalog(
        len(lengths),
        num_items,
        (Attribute("color", 4, 1),),
        (Attribute("kind", 3, 1),),
        {"color": color_V1},
        {"kind": kind_U1},
    )
    times_N = np.arange(len(items_N), dtype=np.int64) * 60 if times else None
    log = PackedLog(offsets_U1, items_N, times_N, None, catalog, {"fingerprint": "toy", "name": "toy"})
    clicks = {}
    for split in ("val", "test") if click_negatives else ():
        targets = held_out(log, split)
        seen = SeenItems.of(offsets_U1, items_N, num_items)
        negatives_RK = draw_unseen(targets.rows_R, click_negatives, seen, rng=rng)
        items_RC = np.concatenate([items_N[targets.ends_R][:, None], negatives_RK], 1).astype(np.int32)
        labels_RC = np.zeros(items_RC.shape, np.int8)
        labels_RC[:, 0] = 1
        clicks[split] = LabelledRows(targets.rows_R, targets.ends_R, items_RC, labels_RC)
    return replace(log, view=replace(leave_last(offsets_U1), clicks=clicks))


def random_histories(users: int, num_items: int, longest: int, seed: int = 0) -> list[list[int]]:
    """Histories of 3 to `longest` distinct items."""
    rng = np.random.default_rng(seed)
    return [(rng.permutation(num_items)[: int(rng.integers(3, longest + 1))] + 1).tolist() for _ in range(users)]
