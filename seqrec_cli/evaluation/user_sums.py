"""Metrics as ratios of sums over users, so that resampling users is a change of weights.

A mean over requests is (sum of values) / (number of requests), both summed by user. GAUC is the sum of users' own AUCs
times their candidates over the sum of candidates, logloss a sum of losses over the number of candidates. AUC is a sum
over pairs; to first order in the weights it is the mean placement of positives plus that of negatives (the structural
components of DeLong 1988, summed by user as in Obuchowski 1997, Biometrics 53(2)), less the AUC once. The remainder
comes from pairs of users resampled together and shrinks as 1 / users.

Legend: U users, T terms, R requests, N labelled candidates, M positives.
"""

from dataclasses import dataclass

import numpy as np

from seqrec_cli.evaluation.delong import placements
from seqrec_cli.metrics.clicks import user_aucs
from seqrec_cli.metrics.kinds import MetricError

CLICK_SUMS = ("auc", "gauc", "logloss")  # click metrics that are such ratios; the calibration error is none


@dataclass(frozen=True)
class UserSums:
    """The metric `sum_t (sum_u tops_TU) / (sum_u bottoms_TU) + constant` of users that are drawn independently."""

    tops_TU: np.ndarray
    bottoms_TU: np.ndarray
    constant: float = 0.0

    @property
    def value(self) -> float:
        return float(self._ratios_T().sum() + self.constant)

    @property
    def influences_U(self) -> np.ndarray:
        """What each user adds to the metric's sampling error, times the number of users; 0 on average.

        The delta method for ratios: (top_u - ratio * bottom_u) / mean(bottom), summed over terms.
        """
        residuals_TU = self.tops_TU - self._ratios_T()[:, None] * self.bottoms_TU
        influences_U: np.ndarray = (residuals_TU / self.bottoms_TU.mean(axis=1, keepdims=True)).sum(axis=0)
        return influences_U

    def _ratios_T(self) -> np.ndarray:
        ratios_T: np.ndarray = self.tops_TU.sum(axis=1) / self.bottoms_TU.sum(axis=1)
        return ratios_T


def standard_error(influences_U: np.ndarray) -> float:
    """Of a metric, or of a difference between two (by the difference of their influences). NaN for one user."""
    users = len(influences_U)
    return float(influences_U.std(ddof=1) / np.sqrt(users)) if users > 1 else float("nan")


def request_sums(values_R: np.ndarray, users_R: np.ndarray) -> UserSums:
    """A mean over requests, of which a user may have several; rows are ordered by user."""
    starts_U = np.flatnonzero(np.diff(users_R, prepend=users_R[:1] - 1))
    counts_U = np.diff(starts_U, append=len(users_R))
    return UserSums(np.add.reduceat(values_R, starts_U)[None], counts_U[None].astype(np.float64))


def click_sums(metric: str, *, labels_N: np.ndarray, logits_N: np.ndarray, users_N: np.ndarray) -> UserSums:
    """One of `CLICK_SUMS`; rows are ordered by user. Raises MetricError where the metric does not exist."""
    index_N = np.cumsum(np.diff(users_N, prepend=users_N[:1]) != 0)
    sizes_U, logits_N = np.bincount(index_N), np.asarray(logits_N, np.float64)
    users = len(sizes_U)
    positive_N = np.asarray(labels_N) > 0.5
    if positive_N.all() or not positive_N.any():
        raise MetricError(f"all click labels are of one class, so {metric} does not exist")
    if metric == "logloss":
        losses_N = np.logaddexp(0, np.where(positive_N, -logits_N, logits_N))
        return UserSums(np.bincount(index_N, losses_N, users)[None], sizes_U[None].astype(np.float64))
    if metric == "gauc":
        aucs_U, _ = user_aucs(labels_N, logits_N, users_N)
        both_U = ~np.isnan(aucs_U)
        if not both_U.any():
            raise MetricError("no user has both a positive and a negative candidate, so GAUC does not exist")
        weights_U = np.where(both_U, sizes_U, 0.0)
        return UserSums((np.nan_to_num(aucs_U) * weights_U)[None], weights_U[None])
    if metric != "auc":
        raise MetricError(f"{metric} is no sum over users (have: {', '.join(CLICK_SUMS)})")
    placed = placements(labels_N, logits_N)
    tops_TU, bottoms_TU = np.zeros((2, users)), np.zeros((2, users))
    for term, (shares, rows) in enumerate(zip(placed, (positive_N, ~positive_N), strict=True)):
        tops_TU[term] = np.bincount(index_N[rows], shares, users)
        bottoms_TU[term] = np.bincount(index_N[rows], minlength=users)
    return UserSums(tops_TU, bottoms_TU, -placed.auc)
