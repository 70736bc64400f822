"""Chances that places are looked at, from planted ones."""

import numpy as np
import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.view import LabelledRows
from seqrec_cli.evaluation.logged import position_bias
from seqrec_cli.evaluation.logged.position_bias import click_rates, harvested, propensities


def rows_of(items_RC: np.ndarray, clicks_RC: np.ndarray) -> LabelledRows:
    rows_R = np.arange(len(items_RC))
    return LabelledRows(rows_R, rows_R, items_RC.astype(np.int32), clicks_RC.astype(np.float32))


def planted(looked_K: np.ndarray, requests: int, seed: int = 0) -> LabelledRows:
    """Lists of a baseline that shows liked items first, with noise."""
    rng = np.random.default_rng(seed)
    liked_V = rng.beta(1, 4, 80)
    scores_RV = 15 * liked_V + 1.5 * rng.gumbel(size=(requests, len(liked_V)))
    items_RK = np.argsort(-scores_RV, axis=1)[:, : len(looked_K)]
    return rows_of(items_RK + 1, rng.random(items_RK.shape) < looked_K * liked_V[items_RK])


def test_harvested_chances_are_the_planted_ones_where_rates_of_clicks_are_not() -> None:
    looked_K = np.array([1, 0.7, 0.5, 0.4, 0.3])
    rows = planted(looked_K, 30_000)
    found_K, rates_K = harvested(rows), click_rates(rows)
    assert found_K == pytest.approx(looked_K, abs=0.03)
    assert (rates_K < 0.9 * looked_K)[3:].all()  # the baseline shows liked items first


def test_items_are_counted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = planted(np.array([1, 0.6, 0.4]), 2_000)
    found_K = harvested(rows)
    monkeypatch.setattr(position_bias, "BLOCK", 7)
    assert harvested(rows) == pytest.approx(found_K, rel=1e-4)


def test_padding_is_no_item() -> None:
    rows = planted(np.array([1, 0.6, 0.4]), 5_000)
    wider = rows_of(np.pad(rows.items_RC, ((0, 0), (0, 2))), np.pad(rows.labels_RC, ((0, 0), (0, 2))))
    assert harvested(wider)[:3] == pytest.approx(harvested(rows))
    assert harvested(wider)[3:] == pytest.approx(harvested(wider)[2])  # nothing was shown there: as the place before
    assert click_rates(wider)[3:].tolist() == [0, 0]


def test_a_log_that_never_moves_an_item_tells_nothing() -> None:
    items_RC = np.tile([1, 2, 3], (50, 1))
    with pytest.raises(SeqrecError, match=r"cannot be estimated: .*give them, as propensities="):
        harvested(rows_of(items_RC, items_RC == 1))


def test_given_chances_are_taken_and_the_last_serves_the_rest() -> None:
    rows = planted(np.ones(5), 10)
    assert propensities(rows, [0.8, 0.4, 0.2]).tolist() == pytest.approx([1, 0.5, 0.25, 0.25, 0.25])
    assert propensities(rows, [1, 0.9, 0.8, 0.7, 0.6, 0.5]).tolist() == pytest.approx([1, 0.9, 0.8, 0.7, 0.6])
    many = planted(np.array([1, 0.5]), 3_000)
    assert propensities(many, None) == pytest.approx(harvested(many))


def test_one_place_has_nothing_to_be_compared_with() -> None:
    assert harvested(rows_of(np.array([[1], [2]]), np.array([[1], [0]]))).tolist() == [1]
