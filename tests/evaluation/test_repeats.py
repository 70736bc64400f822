"""What a history gives away by itself, where targets repeat."""

from dataclasses import replace

import numpy as np
import torch

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.splits import held_out, view_of
from seqrec_cli.evaluation.baselines import baselines
from seqrec_cli.evaluation.repeats import Repeats, longest_history, repeat_scorers

BATCH = Batch(torch.tensor([1, 2]), torch.tensor([[4, 2, 4, 3], [5, 1, 0, 0]]), torch.tensor([4, 2]))


def test_met_items_score_one_or_by_how_lately() -> None:
    catalog = Catalog(2, 6)
    member, latest = Repeats(catalog, "member"), Repeats(catalog, "latest")
    assert member.score_corpus(BATCH)[:, 1:].tolist() == [[0, 1, 1, 1, 0, 0], [1, 0, 0, 0, 1, 0]]
    assert latest.score_corpus(BATCH)[:, 1:].tolist() == [[0, 0.5, 1, 0.75, 0, 0], [0.5, 0, 0, 0, 0.25, 0]]
    items = torch.tensor([[3, 6], [1, 5]])
    assert latest.score(BATCH, items).tolist() == [[1, 0], [0.5, 0.25]]


def test_they_stand_among_the_baselines_where_targets_repeat(random_log, cfg, cpu) -> None:
    def keeping(repeated: int, seen: str):
        view = view_of(random_log)
        splits = {split: {"repeated_targets": repeated} for split in ("val", "test")}
        return replace(random_log, view=replace(view, seen=seen, manifest=view.manifest | {"splits": splits}))

    assert repeat_scorers(keeping(12, "remove"), "test") == {}
    assert repeat_scorers(keeping(0, "keep"), "test") == {}
    log = keeping(12, "keep")
    found = baselines(log, "test", cfg=cfg, precision=cpu, max_length=3)
    assert list(found) == ["random", "popular", "markov", "itemknn", "graph", "repeats", "latest"]
    targets, hits = held_out(log, "test"), []
    for row, end in zip(targets.rows_R, targets.ends_R, strict=True):  # by hand, whole histories beyond max_length
        met = set(log.items_N[log.offsets_U1[row] : end].tolist())
        place = 1 + (len(met) - 1) / 2 if log.items_N[end] in met else 1 + len(met) + (40 - len(met) - 1) / 2
        hits.append(place <= 10)
    assert found["repeats"]["hr@10"] == np.mean(hits)
    assert longest_history(log) == max(np.diff(log.offsets_U1))
