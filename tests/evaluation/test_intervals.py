"""Sums over users, their standard errors and the bootstrap, against slow loops and exact resampling."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from seqrec_cli.evaluation import intervals
from seqrec_cli.evaluation.intervals import (
    bootstrap,
    bootstrap_p,
    detectable,
    holm,
    normal_p,
    percentile_interval,
    user_interval,
)
from seqrec_cli.evaluation.user_sums import CLICK_SUMS, UserSums, click_sums, request_sums, standard_error
from seqrec_cli.metrics.clicks import auc, gauc, logloss
from seqrec_cli.metrics.kinds import MetricError


def clicks(users: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users of 1 to 3 requests of five candidates, with an intercept each; tied scores too."""
    rng = np.random.default_rng(seed)
    users_N = np.repeat(np.arange(users), 5 * rng.integers(1, 4, users))
    labels_N = (np.arange(len(users_N)) % 5 == 0).astype(np.int8)
    logits_N = labels_N + rng.normal(size=users)[users_N] + rng.normal(size=len(users_N))
    return labels_N, np.round(logits_N, 1), users_N


def resampled(labels_N: np.ndarray, logits_N: np.ndarray, users_N: np.ndarray, drawn: np.ndarray) -> tuple[float, ...]:
    """The three metrics of a multiset of users, computed from its rows."""
    rows = [np.flatnonzero(users_N == user) for user in drawn]
    numbers = np.repeat(np.arange(len(drawn)), [len(each) for each in rows])
    picked = np.concatenate(rows)
    y, z = labels_N[picked], logits_N[picked]
    return auc(y, z), gauc(y, z, numbers), logloss(y, z)


def test_sums_are_the_metrics() -> None:
    labels_N, logits_N, users_N = clicks(40, 0)
    values = (auc(labels_N, logits_N), gauc(labels_N, logits_N, users_N), logloss(labels_N, logits_N))
    for metric, value in zip(CLICK_SUMS, values, strict=True):
        sums = click_sums(metric, labels_N=labels_N, logits_N=logits_N, users_N=users_N)
        assert sums.value == pytest.approx(value)
        assert sums.influences_U.sum() == pytest.approx(0, abs=1e-9)
    several = request_sums(np.array([1.0, 0.0, 0.5, 1.0]), np.array([3, 3, 7, 9]))
    assert several.value == pytest.approx(2.5 / 4)
    assert several.tops_TU.tolist() == [[1.0, 0.5, 1.0]]
    assert several.bottoms_TU.tolist() == [[2, 1, 1]]


def test_a_mean_has_its_standard_error_and_a_ratio_that_of_the_jackknife() -> None:
    rng = np.random.default_rng(3)
    values_R = rng.random(200)
    alone = request_sums(values_R, np.arange(200))
    assert standard_error(alone.influences_U) == pytest.approx(values_R.std(ddof=1) / math.sqrt(200))
    assert user_interval(alone)[0] == pytest.approx(values_R.mean() - 1.95996 * values_R.std(ddof=1) / math.sqrt(200))
    labels_N, logits_N, users_N = clicks(300, 4)
    for nth, metric in enumerate(CLICK_SUMS):
        left_out = [
            resampled(labels_N, logits_N, users_N, np.delete(np.arange(300), user))[nth] for user in range(0, 300, 3)
        ]
        jackknife = math.sqrt(3 * np.sum((np.array(left_out) - np.mean(left_out)) ** 2) * 299 / 300)
        sums = click_sums(metric, labels_N=labels_N, logits_N=logits_N, users_N=users_N)
        assert standard_error(sums.influences_U) == pytest.approx(jackknife, rel=0.12)  # a third of the users


def test_the_bootstrap_is_that_of_the_rows() -> None:
    """GAUC and logloss are exact in each resample, AUC up to what falls as 1 / users."""
    labels_N, logits_N, users_N = clicks(150, 1)
    sums = [click_sums(metric, labels_N=labels_N, logits_N=logits_N, users_N=users_N) for metric in CLICK_SUMS]
    found_SB = bootstrap(sums, resamples=300, seed=5)
    rng = np.random.default_rng(5)  # the same draws
    slow_BS = [resampled(labels_N, logits_N, users_N, rng.integers(150, size=150, dtype=np.int32)) for _ in range(300)]
    slow_SB = np.array(slow_BS).T
    assert np.allclose(found_SB[1:], slow_SB[1:])
    assert np.abs(found_SB[0] - slow_SB[0]).max() < 0.02 < slow_SB[0].max() - slow_SB[0].min()
    assert percentile_interval(found_SB[0]) == pytest.approx(percentile_interval(slow_SB[0]), abs=0.004)
    assert bootstrap(sums, resamples=300, seed=5).tolist() == found_SB.tolist()
    assert bootstrap(sums, resamples=300, seed=6).tolist() != found_SB.tolist()


def test_pairs_are_exact() -> None:
    """A run that is better by .1 for every user is better by .1 in every resample; half the users: by their share."""
    rng = np.random.default_rng(0)
    values_R, users_R = rng.random(500), np.arange(500)
    first, better = request_sums(values_R, users_R), request_sums(values_R + 0.1, users_R)
    values_SB = bootstrap([first, better], resamples=1000, seed=0)
    assert np.allclose(values_SB[1] - values_SB[0], 0.1)
    assert standard_error(better.influences_U - first.influences_U) == pytest.approx(0, abs=1e-12)
    assert np.ptp(values_SB[0]) > 0.05
    assert bootstrap_p(values_SB[1] - values_SB[0]) == pytest.approx(2 / 1001)
    assert bootstrap_p(np.zeros(1000)) == 1


def test_many_users_are_resampled_by_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "MOST_GROUPS", 500)
    values_R = np.random.default_rng(0).exponential(size=4321)
    sums = request_sums(values_R, np.arange(4321))
    values_B = bootstrap([sums], resamples=4000, seed=0)[0]
    assert values_B.mean() == pytest.approx(values_R.mean(), abs=0.002)
    assert values_B.std() == pytest.approx(standard_error(sums.influences_U), rel=0.1)


def test_p_values() -> None:
    differences_B = np.concatenate([np.full(30, -1.0), np.full(970, 2.0)])
    assert bootstrap_p(differences_B) == pytest.approx(2 * 31 / 1001)
    assert bootstrap_p(-differences_B) == bootstrap_p(differences_B)
    assert percentile_interval(differences_B)[0] < 0
    assert percentile_interval(differences_B[10:])[0] == 2.0
    assert normal_p(0.0, 0.0) == 1
    assert normal_p(1.0, 1.0) == pytest.approx(2 * NormalDist().cdf(-1))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([]) == []


def test_what_is_detectable_is_found_four_times_in_five() -> None:
    """Differences drawn around the detectable one are significant at 5 % in about 80 of 100 cases."""
    error = 0.013
    gains = np.random.default_rng(0).normal(detectable(error), error, 20_000)
    found = np.mean([normal_p(gain, error) < 0.05 for gain in gains])
    assert found == pytest.approx(0.8, abs=0.01)


def test_one_class_has_no_auc_and_a_resample_without_positives_is_left_out() -> None:
    with pytest.raises(MetricError, match="one class"):
        click_sums("auc", labels_N=np.ones(4), logits_N=np.arange(4.0), users_N=np.arange(4))
    with pytest.raises(MetricError, match="no user has both"):
        click_sums("gauc", labels_N=np.array([1, 0]), logits_N=np.arange(2.0), users_N=np.arange(2))
    with pytest.raises(MetricError, match="ece is no sum over users"):
        click_sums("ece", labels_N=np.array([1, 0]), logits_N=np.arange(2.0), users_N=np.arange(2))
    rare = UserSums(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]))
    values_B = bootstrap([rare], resamples=200, seed=0)[0]
    assert np.isnan(values_B).any()
    assert percentile_interval(values_B) == (1, 1)
