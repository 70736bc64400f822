"""DeLong's standard errors against the double sum over pairs."""

import numpy as np
import pytest

from seqrec_cli.evaluation import delong
from seqrec_cli.evaluation.intervals import normal_p


def test_delong_is_the_count_of_pairs() -> None:
    """Placements against the double sum, ties counting half; the error against the formula's components."""
    rng = np.random.default_rng(0)
    labels_S = np.array([1, 0] * 15 + [0] * 5)
    scores_S, other_S = rng.integers(0, 8, 35) + labels_S, rng.normal(size=35)
    positive, negative = scores_S[labels_S == 1].astype(float), scores_S[labels_S == 0].astype(float)
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    found = delong.placements(labels_S, scores_S)
    assert found.auc == pytest.approx(wins.mean())
    assert np.allclose(found.positives_M, wins.mean(1))
    assert np.allclose(found.negatives_N, wins.mean(0))
    variance = sum(((w - w.mean()) ** 2).sum() / (len(w) - 1) / len(w) for w in (wins.mean(1), wins.mean(0)))
    assert found.error == pytest.approx(variance**0.5)
    nothing = found.minus(found)
    assert (nothing.auc, nothing.error) == (0, 0)
    other = delong.placements(labels_S, other_S)
    assert found.minus(other).auc == pytest.approx(found.auc - other.auc)
    assert delong.mean([found, other]).auc == pytest.approx((found.auc + other.auc) / 2)


def test_the_variance_of_a_difference_is_that_of_delongs_covariances() -> None:
    """L S L' of DeLong 1988, eq. 5 and 6, with L = (-1, 1), from the matrix of wins."""
    rng = np.random.default_rng(1)
    labels_S = np.array([1] * 12 + [0] * 20)
    scores = [rng.integers(0, 6, 32) + 2 * labels_S, rng.integers(0, 9, 32) + labels_S]
    found = [delong.placements(labels_S, each) for each in scores]
    positive = np.array([run.positives_M for run in found])
    negative = np.array([run.negatives_N for run in found])
    covariance = np.cov(positive) / 12 + np.cov(negative) / 20
    gain = found[1].minus(found[0])
    contrast = np.array([-1, 1])
    assert gain.error == pytest.approx(float(contrast @ covariance @ contrast) ** 0.5)
    assert normal_p(1.959963984540054 * gain.error, gain.error) == pytest.approx(0.05)


def test_one_positive_has_an_auc_and_no_error() -> None:
    one = delong.placements(np.array([1, 0, 0, 0]), np.array([2.0, 1.0, 3.0, 2.0]))
    assert one.auc == pytest.approx(1.5 / 3)
    assert np.isnan(one.error)
