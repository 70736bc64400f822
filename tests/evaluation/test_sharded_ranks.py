"""Ranks, logits and lists from tables that are spread over ranks: the metrics of one process, to the last bit.

Legend: D width.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.view import Targets
from seqrec_cli.evaluation.evaluate import Evaluation, evaluate
from seqrec_cli.models.contract import SequenceEncoder
from seqrec_cli.models.layers.row_shard import RowShard
from seqrec_cli.models.layers.sharded_table import ShardedTable, catalog_table, cut_tables
from seqrec_cli.training.precision import Precision
from tests.models.toy import toy_model
from tests.ranks import run_ranks
from tests.toylog import packed, random_histories

ITEMS = 40  # as the toy models have
CPU = Precision(torch.device("cpu"), "fp32")


class Ties(SequenceEncoder):
    """Whole-number vectors, so that many scores are equal."""

    def __init__(self) -> None:
        super().__init__(Catalog(8, ITEMS))
        self.items: nn.Embedding = catalog_table(ITEMS + 1, 4)
        generator = torch.Generator().manual_seed(0)
        self.items.weight.data = torch.randint(-1, 2, (ITEMS + 1, 4), generator=generator).float()
        self.items.weight.data[0] = 0

    def encode(self, batch: Batch) -> Tensor:
        vectors: Tensor = self.items(batch.items_BL)
        return vectors

    @property
    def shard(self) -> RowShard | None:
        return self.items.shard if isinstance(self.items, ShardedTable) else None

    def item_table(self) -> Tensor:
        return self.items.weight

    def item_vectors(self, items: Tensor) -> Tensor:
        vectors: Tensor = self.items(items)
        return vectors


def log_of(seen: str, several: bool) -> PackedLog:
    log = packed(random_histories(37, ITEMS, 20, seed=4), ITEMS, click_negatives=3)
    log = replace(log, view=replace(log.view, seen=seen))
    if not several:
        return log
    counts_R = np.random.default_rng(1).integers(1, 9, log.num_users)
    counts_R = np.minimum(counts_R, np.diff(log.offsets_U1) - 1)
    ends_R = log.offsets_U1[1:] - counts_R
    targets = Targets(
        np.arange(log.num_users), ends_R, ragged_ranges(ends_R, counts_R), np.concatenate([[0], np.cumsum(counts_R)])
    )
    return replace(log, view=replace(log.view, test=targets))


LOGS = {
    "seen removed": log_of("remove", several=False),
    "seen kept": log_of("keep", several=False),
    "several targets": log_of("remove", several=True),
    "several, seen kept": log_of("keep", several=True),
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ties": ("ties", {}),
    "sasrec": ("sasrec", {"item_bias": True}),
    "bert4rec": ("bert4rec", {}),
    "tied attributes": ("gru4rec", {"attributes": "tied", "temperature": None}),
}


def measured(case: str, log: PackedLog, *, sharded: bool, spoil: bool = False) -> Evaluation:
    name, changes = CASES[case]
    model = Ties() if name == "ties" else toy_model(name, seed=1, **changes)
    assert isinstance(model, SequenceEncoder)
    with torch.no_grad():
        for parameter in [p for key, p in model.named_parameters() if "bias_V" in key]:
            parameter.uniform_(-0.5, 0.5)
        if spoil:
            model.item_table()[ITEMS] = torch.nan
    if sharded:
        cut_tables(model)
    cfg = EvaluationConfig(
        cutoffs=(1, 5, 30),
        batch_size=10,  # of which no number of ranks is a divisor; the last batch has fewer rows than ranks
        memory_mb=1,
        ranked_users=31 if log is LOGS["seen kept"] else None,  # the click candidates are then not theirs
        test="once",
        beyond_accuracy=True,
        baselines=False,
    )
    return evaluate(model, log, "test", cfg=cfg, max_length=10, precision=CPU)


def every_case(folder: Path) -> dict[tuple[str, str], tuple[dict[str, float], np.ndarray, np.ndarray, np.ndarray]]:
    """What a rank finds: metrics, ranks, numbers of candidates, logits of click candidates."""
    found = {}
    for case in CASES:
        for kind, log in LOGS.items():
            one = measured(case, log, sharded=True)
            found[case, kind] = one.metrics, one.ranks.ranks_T, one.ranks.candidates_R, one.clicks.logits_N
    for case in ("ties",):
        with pytest.raises(SeqrecError, match="NaN or infinite"):  # on the ranks without the row, too
            measured(case, LOGS["seen kept"], sharded=True, spoil=True)
    return found


@pytest.fixture(scope="module", params=[2], ids=["2 ranks"])
def by_rank(request: pytest.FixtureRequest, python: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return run_ranks(
        python, "tests.evaluation.test_sharded_ranks:every_case", request.param, tmp_path_factory.mktemp("ranks")
    )


@pytest.mark.parametrize("kind", LOGS)
@pytest.mark.parametrize("case", CASES)
def test_every_rank_has_the_ranks_and_metrics_of_one_process(case: str, kind: str, by_rank: list[Any]) -> None:
    one = measured(case, LOGS[kind], sharded=False)
    assert "coverage@5" in one.metrics
    if case == "ties":
        assert (one.ranks.ranks_T % 1 != 0).sum() > 5
    for found in by_rank:
        metrics, ranks_T, candidates_R, logits_N = found[case, kind]
        np.testing.assert_array_equal(ranks_T, one.ranks.ranks_T)
        np.testing.assert_array_equal(candidates_R, one.ranks.candidates_R)
        np.testing.assert_allclose(logits_N, one.clicks.logits_N, rtol=1e-5, atol=1e-6)
        assert metrics == pytest.approx(one.metrics, rel=1e-6)
        of_ranks = [name for name in metrics if "@" in name]
        assert len(of_ranks) > 20
        assert [metrics[name] for name in of_ranks] == [one.metrics[name] for name in of_ranks]
