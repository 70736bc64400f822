"""What DIEN's auxiliary negatives are drawn from: all unseen items alike, or as often as items occur in training."""

import numpy as np
import pytest
import torch

from seqrec_cli.commands.training_setup import training_rows
from seqrec_cli.config.compose import compose
from seqrec_cli.config.validate import validate
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import training_counts, training_items
from seqrec_cli.objectives.contract import build_objective
from tests.toylog import packed


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
