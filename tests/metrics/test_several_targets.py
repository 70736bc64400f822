"""Metrics of requests with several targets: as fractions worked out by hand, under ties, and what chance gives."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_cli.metrics.kinds import RankMetric, TargetRanks
from seqrec_cli.metrics.table import METRICS, compute_metrics, expected_at_random, metric_names, parse_metric

SEVERAL = metric_names((1, 3), ("several targets",))


def log2(position: float) -> float:
    return 1 / math.log2(position + 1)


def test_several_targets_by_hand():
    """Three targets at 1, 4 and 5 of 9; two at 2 and 3 of 4, given out of order."""
    ranks = TargetRanks(np.array([4.0, 1.0, 5.0, 3.0, 2.0]), np.array([0, 3, 5]), np.array([9, 4]))
    expected = {
        "hr@1": 1 / 2,
        "hr@3": 1,
        "ndcg@1": 1 / 2,
        "ndcg@3": (1 / (1 + log2(2) + log2(3)) + (log2(2) + log2(3)) / (1 + log2(2))) / 2,
        "mrr@1": 1 / 2,
        "mrr@3": (1 + 1 / 2) / 2,
        "mrr": (1 + 1 / 2) / 2,
        "precision@1": 1 / 2,
        "precision@3": (1 / 3 + 2 / 3) / 2,
        "recall@1": (1 / 3 + 0) / 2,
        "recall@3": (1 / 3 + 1) / 2,
        "map@1": 1 / 2,
        "map@3": (1 / 3 + (1 / 2 + 2 / 3) / 2) / 2,
        "map": ((1 + 2 / 4 + 3 / 5) / 3 + (1 / 2 + 2 / 3) / 2) / 2,
        "r_precision": (1 / 3 + 1 / 2) / 2,
        # 18 pairs of which four are lost (two non-targets above the second and the third); 4 pairs, two lost
        "corpus_auc": (14 / 18 + 2 / 4) / 2,
    }
    assert compute_metrics((1, 3), ranks=ranks) == pytest.approx(expected, abs=1e-12)


def test_with_one_target_each_precision_recall_and_map_repeat_others():
    ranks = TargetRanks.single(np.array([1.0, 2.5, 4.0]), np.array([5, 5, 5]))
    assert set(compute_metrics((3,), ranks=ranks)) == set(metric_names((3,), ()))
    values = {name: parse_metric(name)[0].value(ranks, 3) for name in ("hr@3", "precision@3", "recall@3", "map@3")}
    np.testing.assert_array_equal(values["recall@3"], values["hr@3"])
    np.testing.assert_allclose(values["precision@3"], values["hr@3"] / 3)
    np.testing.assert_array_equal(values["map@3"], METRICS["mrr"].value(ranks, 3))


def test_targets_that_tie_with_each_other_hold_positions_of_their_own():
    """Two that share positions 1 and 2 are found there; one that ties with another item across the cutoff is not."""
    ranks = TargetRanks(np.array([1.5, 1.5, 5.0, 1.5]), np.array([0, 3, 4]), np.array([6, 6]))
    assert ranks.positions_T.tolist() == [1.0, 2.0, 5.0, 1.5]
    assert METRICS["hr"].value(ranks, 1).tolist() == [1, 0]
    assert METRICS["ndcg"].value(ranks, 2).tolist() == [1, pytest.approx(log2(1.5))]
    assert METRICS["precision"].value(ranks, 2).tolist() == [1, 0.5]


def test_equal_ranks_of_two_requests_are_no_tie():
    ranks = TargetRanks(np.array([2.0, 3.0, 3.0, 4.0]), np.array([0, 2, 4]), np.array([6, 6]))
    assert ranks.positions_T.tolist() == [2.0, 3.0, 3.0, 4.0]
    assert ranks.nth_T.tolist() == [1, 2, 1, 2]


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), items=st.integers(2, 9), levels=st.integers(1, 5), k=st.integers(1, 10))
def test_no_order_is_worth_more_than_the_best(seed, items, levels, k):
    """With ties of every kind, values stay within 0 and 1, and shares of the first k are shares of whole targets."""
    rng = np.random.default_rng(seed)
    scores_V, is_target_V = rng.integers(0, levels, items), rng.permutation(items) < rng.integers(1, items + 1)
    higher_TV = scores_V > scores_V[is_target_V][:, None]
    equal_TV = scores_V == scores_V[is_target_V][:, None]
    ranks_T = 1 + higher_TV.sum(1) + (equal_TV.sum(1) - 1) / 2
    ranks = TargetRanks(ranks_T, np.array([0, len(ranks_T)]), np.array([items]))
    found = {name: METRICS[name].value(ranks, k)[0] for name in ("hr", "ndcg", "mrr", "precision", "recall", "map")}
    found |= {name: METRICS[name].value(ranks, None)[0] for name in ("map", "r_precision", "corpus_auc")}
    assert all(-1e-12 <= value <= 1 + 1e-12 for value in found.values())
    pairs = [
        (scores_V[i] > scores_V[j]) + (scores_V[i] == scores_V[j]) / 2
        for i in np.flatnonzero(is_target_V)
        for j in np.flatnonzero(~is_target_V)
    ]
    assert found["corpus_auc"] == pytest.approx(np.mean(pairs) if pairs else 0.5)


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize(("candidates", "targets"), [(2, 1), (2, 2), (6, 2), (7, 3), (5, 5)])
def test_chance_is_the_mean_over_all_subsets(name, candidates, targets):
    subsets = list(itertools.combinations(range(1, candidates + 1), targets))
    metric, k = parse_metric(name)
    assert isinstance(metric, RankMetric)
    ranks = TargetRanks(
        np.array(subsets, float).ravel(),
        np.arange(0, len(subsets) * targets + 1, targets),
        np.full(len(subsets), candidates),
    )
    assert metric.expected_at_random(ranks, k) == pytest.approx(metric.value(ranks, k).mean(), abs=1e-12)


def test_chance_of_requests_with_other_numbers_of_targets():
    ranks = TargetRanks(np.ones(4), np.array([0, 1, 4]), np.array([4, 9]))
    assert expected_at_random((2,), ranks=ranks)["recall@2"] == pytest.approx((2 / 4 + 2 / 9) / 2)
    assert expected_at_random((2,), ranks=ranks)["r_precision"] == pytest.approx((1 / 4 + 3 / 9) / 2)
