"""Metrics over the corpus from ranks among sampled items: against every sample there is, and by simulation."""

import itertools

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.stats import hypergeom

from seqrec_cli.metrics.corrected import (
    corrected_metrics,
    corrected_worths,
    nonnegative_least_squares,
    rank_chances,
)
from seqrec_cli.metrics.kinds import TargetRanks
from seqrec_cli.metrics.table import request_metric


def user_metric(name: str, ranks: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    return request_metric(name, TargetRanks.single(ranks, candidates))


NAMES = ["hr@2", "ndcg@3", "mrr", "corpus_auc"]
N, M = 8, 3


def every_sampled_rank(rank: int) -> list[int]:
    """The target's rank among itself and each possible sample of the other items, best first."""
    others = [item for item in range(1, N + 1) if item != rank]
    return [1 + sum(item < rank for item in sample) for sample in itertools.combinations(others, M)]


def expected(worths_QS: np.ndarray) -> np.ndarray:
    """Each estimator's mean over all samples, by the target's rank, [Q, N]."""
    return np.stack(
        [worths_QS[:, np.array(every_sampled_rank(rank)) - 1].mean(axis=1) for rank in range(1, N + 1)], axis=1
    )


def true_worths() -> np.ndarray:
    ranks = np.arange(1.0, N + 1)
    return np.stack([user_metric(name, ranks, np.full(N, N)) for name in NAMES])


def test_chances_of_a_sampled_rank_are_those_of_all_samples() -> None:
    chances = rank_chances(N, M, np.arange(1, N + 1))
    for rank in range(1, N + 1):
        counts = np.bincount(every_sampled_rank(rank), minlength=M + 2)[1:]
        np.testing.assert_allclose(chances[rank - 1], counts / counts.sum(), atol=1e-12)
    ranks = np.array([1, 2, 40, 3416])
    by_scipy = [hypergeom.pmf(np.arange(101), 3415, r - 1, 100) for r in ranks]
    np.testing.assert_allclose(rank_chances(3416, 100, ranks), by_scipy, atol=1e-9)


def test_the_rank_is_estimated_without_bias_and_so_is_a_linear_metric() -> None:
    places = 1 + (N - 1) * (np.arange(1, M + 2) - 1) / M
    np.testing.assert_allclose(expected(places[None])[0], np.arange(1, N + 1))
    worths_QS = corrected_worths(NAMES, N, M, method="rank", gamma=0.0)
    np.testing.assert_allclose(worths_QS, [user_metric(n, places, np.full(M + 1, N)) for n in NAMES])
    auc = NAMES.index("corpus_auc")
    np.testing.assert_allclose(expected(worths_QS)[auc], true_worths()[auc])
    assert abs(expected(worths_QS)[2] - true_worths()[2]).max() > 0.01  # MRR is not linear


def test_cls_has_the_least_squared_bias_of_all_falling_functions() -> None:
    rng, truth = np.random.default_rng(0), true_worths()

    def bias(worths_QS: np.ndarray) -> np.ndarray:
        return ((expected(worths_QS) - truth) ** 2).mean(axis=1)

    cls_QS = corrected_worths(NAMES, N, M, method="cls", gamma=0.0)
    assert (np.diff(cls_QS) <= 1e-12).all()
    assert (cls_QS >= 0).all()
    for _ in range(200):
        other_QS = np.abs(cls_QS + rng.normal(0, 0.05, cls_QS.shape))
        other_QS = np.sort(other_QS, axis=1)[:, ::-1]
        assert (bias(other_QS) >= bias(cls_QS) - 1e-12).all()
    assert (bias(cls_QS) <= bias(corrected_worths(NAMES, N, M, method="rank", gamma=0.0)) + 1e-12).all()


@pytest.mark.parametrize("gamma", [0.01, 0.1, 1.0])
def test_bv_is_the_least_of_bias_and_weighted_variance(gamma: float) -> None:
    rng, truth = np.random.default_rng(0), true_worths()

    def loss(worths_QS: np.ndarray) -> np.ndarray:
        total = np.zeros(len(NAMES))
        for rank in range(1, N + 1):
            got = worths_QS[:, np.array(every_sampled_rank(rank)) - 1]
            total += (got.mean(axis=1) - truth[:, rank - 1]) ** 2 + gamma * got.var(axis=1)
        return total / N

    best = corrected_worths(NAMES, N, M, method="bv", gamma=gamma)
    for _ in range(200):
        assert (loss(best + rng.normal(0, 0.05, best.shape)) > loss(best)).all()
    # Weighing all of the variance, f(s) is the mean of M over the ranks that s may come from.
    if gamma == 1.0:
        chances = rank_chances(N, M, np.arange(1, N + 1))
        np.testing.assert_allclose(best, truth @ chances / chances.sum(axis=0), atol=1e-12)


@pytest.mark.parametrize(("method", "gamma"), [("rank", 0.0), ("cls", 0.0), ("bv", 0.1)])
def test_a_sample_of_all_items_needs_no_correction(method: str, gamma: float) -> None:
    ranks = np.array([1.0, 3.0, 7.5, 8.0])
    got = corrected_metrics(
        NAMES, ranks, sampled_R=np.full(4, N - 1), candidates_R=np.full(4, N), method=method, gamma=gamma
    )
    for name, values in zip(NAMES, got, strict=True):
        low, high = (user_metric(name, turned(ranks), np.full(4, N)) for turned in (np.floor, np.ceil))
        np.testing.assert_allclose(values, (low + high) / 2, atol=1e-9)


def test_simulated_ranks_come_back_to_the_metric_of_the_corpus() -> None:
    """50,000 requests among 1,000 to 1,010 items: the corrections are nearer than the sampled metric itself."""
    rng, names = np.random.default_rng(1), ["hr@10", "ndcg@10", "mrr", "corpus_auc"]
    n_R = rng.integers(1000, 1011, 50_000)
    ranks_R = np.minimum(np.ceil(rng.exponential(90, len(n_R))), n_R)
    sampled_R = 1.0 + rng.hypergeometric(ranks_R.astype(int) - 1, n_R - ranks_R.astype(int), 100)
    truth = np.array([user_metric(name, ranks_R, n_R).mean() for name in names])
    plain = np.array([user_metric(name, sampled_R, np.full(len(n_R), 101)).mean() for name in names])

    def estimated(method: str, gamma: float = 0.0) -> np.ndarray:
        counts = {"sampled_R": np.full(len(n_R), 100), "candidates_R": n_R}
        return corrected_metrics(names, sampled_R, **counts, method=method, gamma=gamma).mean(axis=1)  # type: ignore[arg-type]

    assert (plain[:3] > 3 * truth[:3]).all()  # flattered
    assert abs(estimated("rank") - truth)[3] < 0.002
    for method, gamma in (("rank", 0.0), ("cls", 0.0), ("bv", 0.1), ("bv", 0.01)):
        assert (abs(estimated(method, gamma) - truth)[:3] < 0.4 * abs(plain - truth)[:3]).all(), (method, gamma)
    # Less weight on the variance, less bias.
    assert (abs(estimated("bv", 0.01) - truth)[:3] < abs(estimated("bv", 1.0) - truth)[:3]).all()


def test_nonnegative_least_squares_is_scipys() -> None:
    rng = np.random.default_rng(2)
    for rows, columns in ((5, 5), (30, 12), (12, 30)):
        a, b = rng.normal(size=(rows, columns)), rng.normal(size=rows)
        x = nonnegative_least_squares(a, b)
        assert (x >= 0).all()
        assert np.linalg.norm(a @ x - b) == pytest.approx(nnls(a, b)[1], abs=1e-9)
    assert not nonnegative_least_squares(np.eye(3), -np.ones(3)).any()
