"""Logs of any size, made on the spot, with something in them to be learned: after an item often comes the next one.

Legend: U users, N events, V items, R requests, C candidates.
"""

from dataclasses import replace

import numpy as np

from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import held_out, leave_last
from seqrec_cli.data.view import LabelledRows

FOLLOWS = 0.6  # of the events: the item after the one before
ZIPF = 1.1  # the others: by popularity


def made_log(
    users: int, items: int, mean: float, longest: int, *, click_negatives: int = 1, seed: int = 0
) -> PackedLog:
    """Histories of log-normal lengths (5 events at least), a minute between events; drawn candidates for clicks."""
    rng = np.random.default_rng(seed)
    lengths_U = np.clip(rng.lognormal(np.log(mean) - 0.32, 0.8, users), 5, longest).astype(np.int64)
    offsets_U1 = np.concatenate([[0], np.cumsum(lengths_U)])
    N = int(offsets_U1[-1])
    shares_V = np.arange(1, items + 1, dtype=np.float64) ** -ZIPF
    drawn_N = np.searchsorted(np.cumsum(shares_V / shares_V.sum()), rng.random(N)).astype(np.int64)
    follows_N = rng.random(N) < FOLLOWS
    follows_N[offsets_U1[:-1]] = False
    # An event that follows stands as far from the last that does not as there are events between them.
    begins_N = np.maximum.accumulate(np.where(follows_N, 0, np.arange(N)))
    items_N = ((drawn_N[begins_N] + np.arange(N) - begins_N) % items + 1).astype(np.int32)
    log = PackedLog(
        offsets_U1,
        items_N,
        60 * np.arange(N, dtype=np.int64),
        None,
        Catalog(users, items),
        {"fingerprint": f"made-{users}-{items}-{mean}-{longest}-{seed}", "name": "made"},
    )
    log = replace(log, view=leave_last(offsets_U1))
    clicks = {}
    for split in ("val", "test"):
        targets = held_out(log, split)
        others_RC = rng.integers(1, items + 1, (len(targets.rows_R), click_negatives))
        items_RC = np.concatenate([items_N[targets.ends_R][:, None], others_RC], 1).astype(np.int32)
        labels_RC = np.zeros(items_RC.shape, np.int8)
        labels_RC[:, 0] = 1
        clicks[split] = LabelledRows(targets.rows_R, targets.ends_R, items_RC, labels_RC)
    assert log.view is not None
    return replace(log, view=replace(log.view, clicks=clicks))
