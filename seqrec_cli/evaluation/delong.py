"""The AUC's standard error, and that of a difference between two models on the same samples.

DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44(3): the AUC is the mean over positives of the share of negatives
below each (eq. 3 to 6), and so a mean of placements whose variance can be estimated. Placements come from mid-ranks in
O(n log n), as in Sun and Xu 2014, IEEE Signal Processing Letters 21(11).

The formula takes samples as independent. Candidates of one user are not: `evaluation/user_sums.py` sums the same
placements by user (Obuchowski 1997, Biometrics 53(2)) where users are what is resampled.

Legend: S samples, M positives, N negatives.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Placements(NamedTuple):
    """Of each positive the share of negatives below it, of each negative the share of positives above it."""

    positives_M: np.ndarray
    negatives_N: np.ndarray

    @property
    def auc(self) -> float:
        return float(self.positives_M.mean())

    @property
    def error(self) -> float:
        """The standard error of the AUC."""
        parts = (part.var(ddof=1) / len(part) if len(part) > 1 else np.nan for part in self)
        return float(np.sqrt(sum(parts)))

    def minus(self, other: "Placements") -> "Placements":
        """Of the difference: its `auc` is the difference of AUCs, its `error` that of paired samples."""
        return Placements(self.positives_M - other.positives_M, self.negatives_N - other.negatives_N)


def midranks(values_S: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values at their mean."""
    _, which_S, counts = np.unique(values_S, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[which_S]
    return ranks


def placements(labels_S: np.ndarray, scores_S: np.ndarray) -> Placements:
    """Of one model. Both labels have to be there, twice at least for an error."""
    positive_S = np.asarray(labels_S) > 0.5
    scores_M, scores_N = scores_S[positive_S], scores_S[~positive_S]
    ranks_S = midranks(scores_S)
    above_M = (ranks_S[positive_S] - midranks(scores_M)) / len(scores_N)
    below_N = 1 - (ranks_S[~positive_S] - midranks(scores_N)) / len(scores_M)
    return Placements(above_M, below_N)


def mean(runs: Sequence[Placements]) -> Placements:
    """Of several runs on the same samples."""
    return Placements(*(np.mean(parts, axis=0) for parts in zip(*runs, strict=True)))
