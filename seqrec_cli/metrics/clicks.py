"""Metrics of labelled scores: AUC, GAUC, logloss, and calibration error.

Legend: N labelled candidates, G users with labelled candidates, T ties, K bins.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from seqrec_cli.metrics.kinds import ClickMetric, MetricError

# Rows worked on at once, so that ten million candidates need little more memory than their scores.
PART = 1 << 20
BINS = 15  # of the calibration error, as in Guo et al.


def _checked(labels_N: np.ndarray, scores_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels as bool, and scores as float32 where that loses nothing (a model's logits), else float64."""
    labels_N, scores_N = np.asarray(labels_N), np.asarray(scores_N)
    if not all(np.isfinite(scores_N[part]).all() for part in _parts(len(scores_N))):
        raise MetricError("the model gives click scores that are NaN or infinite; lower trainer.lr or use fp32")
    if not all(((labels_N[part] == 0) | (labels_N[part] == 1)).all() for part in _parts(len(labels_N))):
        raise MetricError("click labels must be 0 or 1; run preprocess again")
    positives_N = labels_N > 0.5
    if positives_N.all() or not positives_N.any():
        only = "positive" if len(positives_N) and positives_N[0] else "negative"
        raise MetricError(f"all click labels are {only}, so no click metric exists; the split needs both classes")
    if scores_N.dtype != np.float32:
        scores_N = np.asarray(scores_N, np.float64)
        with np.errstate(over="ignore"):
            short_N = scores_N.astype(np.float32)
        if all((short_N[part] == scores_N[part]).all() for part in _parts(len(scores_N))):
            scores_N = short_N
    return positives_N, scores_N


def _parts(rows: int) -> Iterator[slice]:
    return (slice(first, first + PART) for first in range(0, rows, PART))


def auc(labels_N: np.ndarray, scores_N: np.ndarray) -> float:
    """AUC: the chance that a positive scores higher than a negative, all candidates together.

    AUC = P(higher) + P(equal) / 2 over all pairs, exactly. Hanley and McNeil, Radiology 1982. One class
    is sorted, the other looked up in it a part at a time: half wins are counted in whole numbers.
    Raises MetricError if there is one class only, or a score is not finite.
    """
    positives_N, scores_N = _checked(labels_N, scores_N)
    higher_P, lower_M = np.sort(scores_N[positives_N]), np.sort(scores_N[~positives_N])
    few, many = (higher_P, lower_M) if len(higher_P) <= len(lower_M) else (lower_M, higher_P)
    halves = 0  # of the pairs in which `few` stands above `many`, counted twice; a tie once
    for part in _parts(len(few)):
        for side in ("left", "right"):
            halves += int(np.searchsorted(many, few[part], side).sum())
    share = halves / (2 * len(few) * len(many))
    return share if few is higher_P else 1 - share


def _group_aucs(positives_N: np.ndarray, scores_N: np.ndarray, groups_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each group's exact AUC (NaN with one class) and size, by the rank-sum identity with ties at their mean rank.

    The rows of a group stand together, with ascending scores.
    """
    new_group_N = np.diff(groups_N, prepend=groups_N[0] - 1) != 0
    new_tie_N = new_group_N | (np.diff(scores_N, prepend=np.nan) != 0)
    firsts_T = np.flatnonzero(new_tie_N)
    sizes_T = np.diff(firsts_T, append=len(scores_N))
    starts_G = np.flatnonzero(new_group_N)
    group_of_N = np.cumsum(new_group_N) - 1
    # Mean rank within the group, from 1: the tie's first place + (size - 1) / 2.
    mean_rank_T = firsts_T - starts_G[group_of_N[firsts_T]] + (sizes_T + 1) / 2
    ranks_N = np.repeat(mean_rank_T, sizes_T)
    sizes_G = np.diff(starts_G, append=len(scores_N))
    positives_G = np.add.reduceat(positives_N.astype(np.int64), starts_G)
    sums_G = np.add.reduceat(np.where(positives_N, ranks_N, 0.0), starts_G)
    pairs_G = positives_G * (sizes_G - positives_G)
    wins_G = sums_G - positives_G * (positives_G + 1) / 2
    return np.where(pairs_G > 0, wins_G / np.maximum(pairs_G, 1), np.nan), sizes_G


def _by_score(
    positives_N: np.ndarray, scores_N: np.ndarray, groups_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of sorted groups, each group's by ascending score (or by what sorts and ties as its score)."""
    if scores_N.dtype != np.float32:
        order_N = np.lexsort((scores_N, groups_N))
        return positives_N[order_N], scores_N[order_N], groups_N
    # One sort of whole numbers: group, the bits of the score in its order, label. Adding 0 makes -0 equal to 0.
    bits_N = (scores_N + np.float32(0)).view(np.uint32)
    ordered_N = np.where(bits_N >> 31, ~bits_N, bits_N | np.uint32(1 << 31)).astype(np.uint64)
    positions_N = np.cumsum(np.diff(groups_N, prepend=groups_N[0]) != 0).astype(np.uint64)
    keys_N = np.sort(positions_N << np.uint64(33) | ordered_N << np.uint64(1) | positives_N)
    scores_N = (keys_N >> np.uint64(1) & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return (keys_N & np.uint64(1)).astype(bool), scores_N, groups_N


def gauc(labels_N: np.ndarray, scores_N: np.ndarray, users_N: np.ndarray) -> float:
    """GAUC: each user's own AUC, weighted by the user's number of candidates.

    GAUC = sum_u n_u AUC_u / sum_u n_u. Zhou et al., Deep Interest Network (arXiv 1706.06978), eq. 7. Users with one
    class have no AUC and are left out. Raises MetricError if that leaves nobody.
    """
    aucs_G, sizes_G = user_aucs(labels_N, scores_N, users_N)
    has_both_G = ~np.isnan(aucs_G)
    if not has_both_G.any():
        raise MetricError("no user has both a positive and a negative candidate, so GAUC does not exist")
    return float(aucs_G[has_both_G] @ sizes_G[has_both_G]) / int(sizes_G[has_both_G].sum())


def user_aucs(labels_N: np.ndarray, scores_N: np.ndarray, users_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each user's own AUC (NaN with one class) and number of candidates, [G], in order of user."""
    positives_N, scores_N = _checked(labels_N, scores_N)
    users_N = np.asarray(users_N)
    if (users_N[1:] < users_N[:-1]).any():
        order_N = np.argsort(users_N, kind="stable")
        positives_N, scores_N, users_N = positives_N[order_N], scores_N[order_N], users_N[order_N]
    found = []
    first = 0
    while first < len(users_N):  # whole users, about PART rows at once
        last_user = users_N[min(first + PART, len(users_N)) - 1]
        end = int(np.searchsorted(users_N, last_user, "right"))
        found.append(_group_aucs(*_by_score(positives_N[first:end], scores_N[first:end], users_N[first:end])))
        first = end
    aucs_G, sizes_G = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return aucs_G, sizes_G


def logloss(labels_N: np.ndarray, logits_N: np.ndarray) -> float:
    """Logloss: the mean binary cross-entropy of clicks, in nats.

    From logits: log(1 + exp(-z)) of positives, log(1 + exp(z)) of negatives. Good, Rational decisions, 1952. Summed
    in float64. Raises MetricError if there is one class only, or a logit is not finite.
    """
    positives_N, logits_N = _checked(labels_N, logits_N)
    sums = []
    for part in _parts(len(logits_N)):
        logits = logits_N[part].astype(np.float64)
        sums.append(float(np.logaddexp(0, np.where(positives_N[part], -logits, logits)).sum()))
    return math.fsum(sums) / len(logits_N)


@dataclass(frozen=True)
class Calibration:
    """Reliability by bins of equal width in predicted probability: bin k holds (k / bins, (k + 1) / bins].

    `counts_K` candidates of each bin, `predicted_K` their mean probability, `clicked_K` the share that was clicked
    (both 0 in an empty bin).
    """

    counts_K: np.ndarray
    predicted_K: np.ndarray
    clicked_K: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: sum_k n_k / n |clicked_k - predicted_k| (Guo et al., arXiv 1706.04599, eq. 3)."""
        gaps_K = np.abs(self.clicked_K - self.predicted_K)
        return float(self.counts_K @ gaps_K / self.counts_K.sum())


def calibration(labels_N: np.ndarray, logits_N: np.ndarray, bins: int = BINS) -> Calibration:
    """The reliability of sigmoid(logit) as a probability of a click.

    Raises MetricError if there is one class only, or a logit is not finite.
    """
    positives_N, logits_N = _checked(labels_N, logits_N)
    counts_K, predicted_K, clicked_K = np.zeros(bins, np.int64), np.zeros(bins), np.zeros(bins)
    for part in _parts(len(logits_N)):
        logits = logits_N[part].astype(np.float64)
        chances = np.exp(-np.logaddexp(0, -logits))
        of = np.clip(np.ceil(chances * bins).astype(np.int64) - 1, 0, bins - 1)
        counts_K += np.bincount(of, minlength=bins)
        predicted_K += np.bincount(of, weights=chances, minlength=bins)
        clicked_K += np.bincount(of, weights=positives_N[part], minlength=bins)
    full_K = np.maximum(counts_K, 1)
    return Calibration(counts_K, predicted_K / full_K, clicked_K / full_K)


def ece(labels_N: np.ndarray, logits_N: np.ndarray) -> float:
    """Expected calibration error: how far the predicted probabilities are from the shares that were clicked.

    ECE = sum_k n_k / n |clicked_k - predicted_k| over 15 bins of equal width. Guo et al., arXiv 1706.04599, eq. 3.
    """
    return calibration(labels_N, logits_N).error


METRICS = {
    "auc": ClickMetric(value=auc, at_random=lambda share: 0.5, shown="all"),
    "gauc": ClickMetric(value=gauc, at_random=lambda share: 0.5, shown="all", needs_users=True),
    "logloss": ClickMetric(value=logloss, at_random=lambda share: math.log(2), shown="all", higher_is_better=False),
    # In metrics.json and in the reliability diagram; one more column would not fit 80 characters.
    "ece": ClickMetric(value=ece, at_random=lambda share: abs(0.5 - share), higher_is_better=False),
}
