"""The table of metrics: rank metrics as fractions worked out by hand, names, directions, and what chance gives."""

import math

import numpy as np
import pytest

from seqrec_cli.metrics.kinds import RankMetric, TargetRanks
from seqrec_cli.metrics.table import (
    METRICS,
    compute_metrics,
    expected_at_random,
    lower_is_better,
    metric_names,
    parse_metric,
    rank_metric,
    request_metric,
    table_columns,
)


def rank_metrics(ranks_R: np.ndarray, candidates_R: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, float]:
    names = [name for name in metric_names(cutoffs) if isinstance(parse_metric(name)[0], RankMetric)]
    return {name: request_metric(name, TargetRanks.single(ranks_R, candidates_R)).mean() for name in names}


def asked(candidates: list[int] | np.ndarray) -> TargetRanks:
    """Requests of one target each, whose ranks do not matter."""
    return TargetRanks.single(np.ones(len(candidates)), np.asarray(candidates))


def test_ranking_metrics_by_hand():
    ranks_R, candidates_R = np.array([1.0, 3.0, 2.5, 7.0]), np.array([5, 3, 4, 13])
    metrics = rank_metrics(ranks_R, candidates_R, (1, 3))
    expected = {
        "hr@1": 1 / 4,
        "hr@3": 3 / 4,
        "ndcg@1": 1 / 4,
        "ndcg@3": (1 + 1 / 2 + 1 / math.log2(3.5)) / 4,
        "mrr@1": 1 / 4,
        "mrr@3": (1 + 1 / 3 + 2 / 5) / 4,
        "mrr": (1 + 1 / 3 + 2 / 5 + 1 / 7) / 4,
        "r_precision": 1 / 4,
        "corpus_auc": (1 + 0 + 1 / 2 + 1 / 2) / 4,
    }
    assert metrics == pytest.approx(expected, abs=1e-12)


def test_a_rank_tied_across_the_cutoff_is_no_hit():
    assert rank_metrics(np.array([5.5]), np.array([10]), (5, 6)) == pytest.approx(
        {
            "hr@5": 0,
            "hr@6": 1,
            "ndcg@5": 0,
            "ndcg@6": 1 / math.log2(6.5),
            "mrr@5": 0,
            "mrr@6": 2 / 11,
            "mrr": 2 / 11,
            "r_precision": 0,
            "corpus_auc": 1 / 2,
        }
    )


def test_a_first_place_that_is_shared_is_no_r_precision():
    ranks_R = np.array([1.0, 1.5, 2.0])
    assert request_metric("r_precision", TargetRanks.single(ranks_R, np.array([3, 3, 3]))).tolist() == [1, 0, 0]
    assert expected_at_random((3,), ranks=asked([2, 4]), share_positive=0.2)["r_precision"] == pytest.approx(
        (1 / 2 + 1 / 4) / 2
    )


def test_corpus_auc_of_the_only_candidate_is_a_half():
    assert rank_metrics(np.array([1.0]), np.array([1]), (1,))["corpus_auc"] == 0.5


def test_a_random_scorer_by_hand():
    found = expected_at_random((3,), ranks=asked([2, 4]), share_positive=0.2)
    assert found["hr@3"] == pytest.approx((1 + 3 / 4) / 2)
    assert found["ndcg@3"] == pytest.approx(((1 + 1 / math.log2(3)) / 2 + (1 + 1 / math.log2(3) + 1 / 2) / 4) / 2)
    assert found["mrr@3"] == pytest.approx((3 / 4 + (1 + 1 / 2 + 1 / 3) / 4) / 2)
    assert found["mrr"] == pytest.approx((3 / 4 + (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4) / 2)
    assert found["ece"] == pytest.approx(0.3)
    assert (found["corpus_auc"], found["auc"], found["gauc"], found["logloss"]) == (0.5, 0.5, 0.5, math.log(2))


@pytest.mark.parametrize("name", metric_names((1, 7)))
def test_chance_is_the_mean_over_all_ranks_and_labels(name):
    """`expected_at_random` against the value itself: over every rank of 9 candidates, and for constant logits."""
    candidates_R = np.full(9, 9)
    labels_N = np.array([1, 0, 0, 1, 0, 0, 0, 0])
    found = compute_metrics(
        (1, 7),
        ranks=TargetRanks.single(np.arange(1.0, 10.0), candidates_R),
        labels_N=labels_N,
        logits_N=np.zeros(8),
        users_N=np.repeat([0, 1], 4),
    )
    if name == "gauc":  # the second user has one class
        assert found[name] == 0.5
    expected = expected_at_random((1, 7), ranks=asked(candidates_R), share_positive=labels_N.mean())
    assert expected[name] == pytest.approx(found[name])


def test_chance_of_users_with_other_numbers_of_candidates():
    """The mean of each request's own expectation."""
    found = expected_at_random((2,), ranks=asked([4, 9]), share_positive=0.5)
    for name in ("hr@2", "ndcg@2", "mrr"):
        each = [request_metric(name, TargetRanks.single(np.arange(1.0, n + 1), np.full(n, n))).mean() for n in (4, 9)]
        assert found[name] == pytest.approx(np.mean(each))


@pytest.mark.parametrize("kind", [kind for kind, metric in METRICS.items() if "top lists" not in metric.needs])
def test_directions_and_best_values(kind):
    """The best possible scorer has the best value that the direction says."""
    have = ("click candidates", "several targets")
    names = [name for name in metric_names((3,), have) if name.partition("@")[0] == kind]
    best, worst = (
        compute_metrics(
            (3,),
            ranks=TargetRanks(np.array(ranks), np.arange(0, 9, 2), np.full(4, 8)),
            labels_N=np.array([1, 0, 1, 0]),
            logits_N=sign * np.array([9.0, -9.0, 9.0, -9.0]),
            users_N=np.array([0, 0, 1, 1]),
        )
        for ranks, sign in (([1.0, 2.0] * 4, 1), ([7.0, 8.0] * 4, -1))
    )
    assert names
    for name in names:
        assert (best[name] < worst[name]) == lower_is_better(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ndgc@10", "did you mean 'ndcg@k'"),
        ("hr", "hr is no metric"),
        ("hr@", "hr@ is no metric"),
        ("hr@0", "hr@0 is no metric"),
        ("hr@x", r"have: hr@k, ndcg@k, .*mrr@k, mrr, .*corpus_auc, auc, gauc, logloss, ece"),
        ("auc@5", "auc@5 is no metric"),
        ("", "is no metric"),
    ],
)
def test_an_unknown_name_raises(name, said):
    for asked in (parse_metric, lower_is_better, rank_metric):
        with pytest.raises(ValueError, match=said):
            asked(name)


def test_metrics_of_ranks_are_told_from_click_metrics():
    with pytest.raises(ValueError, match=r"auc is no metric of ranks \(have: hr@k, .*corpus_auc") as refused:
        rank_metric("auc")
    assert "logloss" not in str(refused.value)
    assert rank_metric("ndcg@7") == (METRICS["ndcg"], 7)


def test_names_and_columns_in_their_order():
    """A new metric may stand anywhere between them."""
    names = (
        "hr@5",
        "hr@10",
        "ndcg@5",
        "ndcg@10",
        "mrr@5",
        "mrr@10",
        "mrr",
        "corpus_auc",
        "auc",
        "gauc",
        "logloss",
        "ece",
    )
    assert tuple(name for name in metric_names((5, 10)) if name in names) == names
    columns = table_columns(metric_names((5, 10)), 10)
    assert tuple(name for name in columns if name in names) == ("hr@10", "ndcg@10", *names[6:11])
