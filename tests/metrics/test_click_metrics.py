"""Click metrics by hand and against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from seqrec_cli.metrics import clicks as metrics_module
from seqrec_cli.metrics.clicks import auc, calibration, gauc, logloss


def test_auc_and_gauc_by_hand():
    labels, scores = np.array([1, 0, 0, 1, 0]), np.array([2.0, 1.0, 2.0, 0.0, -1.0])
    # pairs of (2, 0): win, tie, win; of (0, ...): loss, loss, win
    assert auc(labels, scores) == pytest.approx((2.5 + 1) / 6)
    users = np.array([7, 7, 7, 3, 3])  # user 7: 1.5 of 2 pairs, user 3: 1 of 1
    assert gauc(labels, scores, users) == pytest.approx((3 * 0.75 + 2 * 1) / 5)


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
    value = gauc(labels, scores, users)
    assert value == pytest.approx(np.average(each, weights=weights), abs=1e-6)


def test_shuffled_labels_fall_to_a_half():
    rng = np.random.default_rng(3)
    scores = rng.normal(size=40_000)
    labels = (scores + rng.normal(size=40_000) > 0).astype(int)
    users = np.arange(40_000) // 20
    assert auc(labels, scores) > 0.8
    shuffled = rng.permutation(labels)
    assert auc(shuffled, scores) == pytest.approx(0.5, abs=0.02)
    assert gauc(shuffled, scores, users) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("metric", [auc, logloss, lambda y, s: gauc(y, s, np.arange(len(y)))])
@pytest.mark.parametrize(("labels", "word"), [([1, 1, 1], "positive"), ([0, 0, 0], "negative")])
def test_one_class_is_an_error(metric, labels, word):
    with pytest.raises(ValueError, match=f"all click labels are {word}"):
        metric(np.array(labels), np.array([0.1, 0.2, 0.3]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_an_error(bad):
    with pytest.raises(ValueError, match="NaN or infinite"):
        auc(np.array([1, 0]), np.array([0.0, bad]))


def test_gauc_without_a_user_of_both_classes_is_an_error():
    with pytest.raises(ValueError, match="no user has both"):
        gauc(np.array([1, 0]), np.array([0.0, 1.0]), np.array([1, 2]))


def labelled(rows: int, precise: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores with many ties (and -0 beside 0), users in no order."""
    rng = np.random.default_rng(seed)
    scores_N = rng.integers(-6, 7, rows) / np.float64(3 if precise else 4)  # thirds are no float32
    scores_N[rng.random(rows) < 0.05] = -0.0
    return (rng.random(rows) < 0.3).astype(np.int8), scores_N, rng.integers(0, 9, rows)


@pytest.mark.parametrize("precise", [False, True])
@pytest.mark.parametrize("part", [7, 1 << 20])
def test_parts_of_any_size_give_the_exact_numbers(precise, part, monkeypatch):
    monkeypatch.setattr(metrics_module, "PART", part)
    y, z, users = labelled(400, precise)
    assert auc(y, z) == pytest.approx(roc_auc_score(y, z), abs=1e-12)
    assert auc(1 - y, z) == pytest.approx(1 - roc_auc_score(y, z), abs=1e-12)
    assert logloss(y, z) == pytest.approx(log_loss(y, 1 / (1 + np.exp(-z))), abs=1e-12)
    each = [(roc_auc_score(y[users == u], z[users == u]), (users == u).sum()) for u in range(9)]
    weighted = sum(value * size for value, size in each) / len(y)
    assert gauc(y, z, users) == pytest.approx(weighted, abs=1e-12)
    whole = calibration(y, z)
    monkeypatch.setattr(metrics_module, "PART", 1 << 20)
    assert calibration(y, z).error == pytest.approx(whole.error, abs=1e-12)


def test_gauc_weights_users_by_candidates_shown():
    # One user ranks 1 of 1 pair right, another 1 of 3 of four candidates; a third has one class.
    y = np.array([1, 0, 1, 0, 0, 0, 1, 1])
    z = np.array([2.0, 1.0, 5.0, 6.0, 7.0, 1.0, 0.0, 1.0])
    users = np.array([3, 3, 8, 8, 8, 8, 9, 9])
    assert gauc(y, z, users) == pytest.approx((2 * 1 + 4 / 3) / 6)


def test_differences_below_float32_are_no_ties():
    y, z = np.array([1, 0]), np.array([1 + 1e-12, 1.0])
    assert auc(y, z) == 1
    assert gauc(y, z, np.zeros(2, int)) == 1


def test_calibration_by_hand():
    chances = np.array([0.05, 0.15, 0.15, 0.2, 0.95])  # .2 ends the second of ten bins
    y = np.array([0, 1, 0, 0, 1])
    found = calibration(y, np.log(chances / (1 - chances)) - 1e-9, bins=10)
    assert found.counts_K.tolist() == [1, 3, 0, 0, 0, 0, 0, 0, 0, 1]
    assert found.clicked_K[1] == pytest.approx(1 / 3)
    assert found.predicted_K[1] == pytest.approx(0.5 / 3)
    assert found.error == pytest.approx((0.05 + abs(1 - 0.5) + 0.05) / 5)


def test_calibration_agrees_with_a_loop_and_sees_overconfidence():
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, 3000)
    y = rng.random(3000) < 1 / (1 + np.exp(-logits))
    for scale in (1.0, 3.0):
        chances = 1 / (1 + np.exp(-scale * logits))
        gaps = 0.0
        for k in range(15):
            here = (chances > k / 15) & (chances <= (k + 1) / 15)
            gaps += here.sum() * abs(y[here].mean() - chances[here].mean()) if here.any() else 0
        assert calibration(y, scale * logits).error == pytest.approx(gaps / 3000, abs=1e-9)
    assert calibration(y, logits).error < 0.03 < calibration(y, 3 * logits).error
