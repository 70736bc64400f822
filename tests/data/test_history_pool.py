"""What DIEN's auxiliary negatives are drawn from: all unseen items alike, or as often as items occur in training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from seqrec_cli.commands.training_setup import training_rows
from seqrec_cli.config.compose import compose
from seqrec_cli.config.validate import validate
from seqrec_cli.data.click_rows import PositionRows
from seqrec_cli.data.interactions import LabelledRows, PackedLog
from seqrec_cli.data.loader import LabelledTraining, PrefixRows
from seqrec_cli.data.splits import training_counts, training_items
from seqrec_cli.objectives.contract import build_objective
from tests.toylog import batching, packed


def skewed() -> PackedLog:
    """Item i of 12 has about 1 / i of the events; held-out events are all of item 12."""
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, 12)
    histories = [rng.choice(np.arange(1, 12), 4, replace=False, p=chances / chances.sum()) for _ in range(300)]
    return packed([[*map(int, history), 12, 12] for history in histories], 12)


def shares(log: PackedLog, negatives: str) -> np.ndarray:
    """How often each item is drawn beside a history's events."""
    overrides = ["model=dien", f"model.auxiliary_negatives={negatives}", "model.max_length=8"]
    cfg = validate("train", compose("train", overrides))
    rows = training_rows(cfg, build_objective(cfg.objective), log, device=torch.device("cpu"))  # type: ignore[arg-type, attr-defined]
    drawn = [b.negatives_BLK.flatten() for epoch in range(3) for b in rows.epoch(epoch) if b.negatives_BLK is not None]
    counts_V = np.bincount(torch.cat(drawn).numpy(), minlength=log.num_items + 1).astype(float)
    return counts_V / counts_V.sum()


def test_the_pool_holds_the_training_events_and_no_other() -> None:
    log = skewed()
    counts_V = np.bincount(training_items(log), minlength=log.num_items + 1)
    assert counts_V.tolist() == training_counts(log).tolist()
    assert counts_V[12] == 0


@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
def test_each_way_of_drawing_has_its_shares(negatives: str) -> None:
    log = skewed()
    counts_V = training_counts(log).astype(float)
    expected = np.zeros(13)
    for user in range(log.num_users):
        seen = set(log.items_N[log.offsets_U1[user] : log.offsets_U1[user + 1] - 2].tolist())
        weights = np.array(
            [0.0 if v in seen or not v else counts_V[v] if negatives == "popularity" else 1.0 for v in range(13)]
        )
        expected += weights / weights.sum() / log.num_users
    np.testing.assert_allclose(shares(log, negatives), expected, atol=0.02)
    assert bool(expected[12] == 0) is (negatives == "popularity")


@pytest.mark.parametrize("pooled", [False, True])
def test_every_kind_of_rows_draws_from_its_pool(pooled: bool) -> None:
    """Item 12 never trains, so that popularity alone never draws it."""
    log = skewed()
    assert log.view is not None
    ends_R = log.offsets_U1[:-1] + 3
    items_RC, labels_RC = np.full((log.num_users, 2), 12, np.int32), np.tile([1, 0], (log.num_users, 1))
    train = LabelledRows(np.arange(log.num_users), ends_R, items_RC, labels_RC)
    labelled = replace(log, view=replace(log.view, clicks={"train": train}))
    pool_N, cpu = training_items(log) if pooled else None, torch.device("cpu")
    for rows in (
        PrefixRows(log, 8, batching(64), negatives=1, history_negatives=1, history_pool_N=pool_N),
        PositionRows(log, 8, batching(64), negatives=1, device=cpu, history_negatives=1, history_pool_N=pool_N),
        LabelledTraining(labelled, 8, batching(64), history_negatives=1, history_pool_N=pool_N),
    ):
        drawn = torch.cat([batch.negatives_BLK.flatten() for batch in rows.epoch(0)])  # type: ignore[union-attr]
        assert bool((drawn == 12).any()) is not pooled, type(rows).__name__
