"""Metrics as fractions worked out by hand, and click metrics against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.evaluation.metrics import auc, gauc, logloss, ranking_metrics


def test_ranking_metrics_by_hand():
    ranks_R, candidates_R = np.array([1.0, 3.0, 2.5, 7.0]), np.array([5, 3, 4, 13])
    metrics = ranking_metrics(ranks_R, candidates_R, (1, 3))
    expected = {
        "hr@1": 1 / 4,
        "hr@3": 3 / 4,
        "ndcg@1": 1 / 4,
        "ndcg@3": (1 + 1 / 2 + 1 / math.log2(3.5)) / 4,
        "mrr@1": 1 / 4,
        "mrr@3": (1 + 1 / 3 + 2 / 5) / 4,
        "mrr": (1 + 1 / 3 + 2 / 5 + 1 / 7) / 4,
        "corpus_auc": (1 + 0 + 1 / 2 + 1 / 2) / 4,
    }
    assert metrics == pytest.approx(expected, abs=1e-12)


def test_a_rank_tied_across_the_cutoff_is_no_hit():
    assert ranking_metrics(np.array([5.5]), np.array([10]), (5, 6)) == pytest.approx(
        {
            "hr@5": 0,
            "hr@6": 1,
            "ndcg@5": 0,
            "ndcg@6": 1 / math.log2(6.5),
            "mrr@5": 0,
            "mrr@6": 2 / 11,
            "mrr": 2 / 11,
            "corpus_auc": 1 / 2,
        }
    )


def test_corpus_auc_of_the_only_candidate_is_a_half():
    assert ranking_metrics(np.array([1.0]), np.array([1]), (1,))["corpus_auc"] == 0.5


def test_auc_and_gauc_by_hand():
    labels, scores = np.array([1, 0, 0, 1, 0]), np.array([2.0, 1.0, 2.0, 0.0, -1.0])
    # pairs of (2, 0): win, tie, win; of (0, ...): loss, loss, win
    assert auc(labels, scores) == pytest.approx((2.5 + 1) / 6)
    users = np.array([7, 7, 7, 3, 3])  # user 7: 1.5 of 2 pairs, user 3: 1 of 1
    assert gauc(labels, scores, users) == (pytest.approx((3 * 0.75 + 2 * 1) / 5), 0)


def test_logloss_by_hand_and_without_overflow():
    assert logloss(np.array([1, 0]), np.array([0.0, math.log(3)])) == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert logloss(np.array([1, 0]), np.array([-800.0, 800.0])) == pytest.approx(800)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(2, 60), levels=st.integers(1, 6))
def test_click_metrics_agree_with_scikit_learn(seed, size, levels):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size)
    labels[:2] = 0, 1
    scores = rng.integers(-levels, levels + 1, size) / 2
    users = rng.integers(0, 6, size)
    users[:2] = 0
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    assert logloss(labels, scores) == pytest.approx(log_loss(labels, 1 / (1 + np.exp(-scores))), abs=1e-6)
    both = [u for u in np.unique(users) if len(set(labels[users == u])) == 2]
    each = [roc_auc_score(labels[users == u], scores[users == u]) for u in both]
    weights = [(users == u).sum() for u in both]
    value, left_out = gauc(labels, scores, users)
    assert value == pytest.approx(np.average(each, weights=weights), abs=1e-6)
    assert left_out == len(np.unique(users)) - len(both)


def test_shuffled_labels_fall_to_a_half():
    rng = np.random.default_rng(3)
    scores = rng.normal(size=40_000)
    labels = (scores + rng.normal(size=40_000) > 0).astype(int)
    users = np.arange(40_000) // 20
    assert auc(labels, scores) > 0.8
    shuffled = rng.permutation(labels)
    assert auc(shuffled, scores) == pytest.approx(0.5, abs=0.02)
    assert gauc(shuffled, scores, users)[0] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("metric", [auc, logloss, lambda y, s: gauc(y, s, np.arange(len(y)))])
@pytest.mark.parametrize(("labels", "word"), [([1, 1, 1], "positive"), ([0, 0, 0], "negative")])
def test_one_class_is_an_error(metric, labels, word):
    with pytest.raises(SeqrecError, match=f"all click labels are {word}"):
        metric(np.array(labels), np.array([0.1, 0.2, 0.3]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_an_error(bad):
    with pytest.raises(SeqrecError, match="NaN or infinite"):
        auc(np.array([1, 0]), np.array([0.0, bad]))


def test_gauc_without_a_user_of_both_classes_is_an_error():
    with pytest.raises(SeqrecError, match="no user has both"):
        gauc(np.array([1, 0]), np.array([0.0, 1.0]), np.array([1, 2]))
