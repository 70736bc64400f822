"""Exposure against interaction: items belong to users (a seller, an author), who act in the log themselves.

Of each owner o two numbers are compared: a_o, how many training events the owner has as a user ("how many items you
interacted with"), and e_o, how often the owner's items stand in a list ("how often your items are recommended").

Legend: O owners, U1 users and nobody, V1 items and padding.
"""

import numpy as np

from seqrec_cli.metrics.kinds import Exposure, ExposureMetric, Need

NEEDS: tuple[Need, ...] = ("top lists", "item owners")


def owner_correlation(exposure: Exposure) -> float | None:
    """Exposure against interaction: whether users who interact more have their items recommended more.

    Spearman's rank correlation of a_o and e_o, owners that tie at their mean rank; -1 to 1, and 0 where all owners are
    alike in one of them. Spearman, The proof and measurement of association between two things, 1904.
    """
    acts_O, shown_O = _of_owners(exposure)
    ranks_O, other_O = mean_ranks(acts_O), mean_ranks(shown_O)
    ranks_O, other_O = ranks_O - ranks_O.mean(), other_O - other_O.mean()
    scale = np.sqrt((ranks_O @ ranks_O) * (other_O @ other_O))
    return float(ranks_O @ other_O / scale) if scale > 0 else 0.0


def owner_imbalance(exposure: Exposure) -> float | None:
    """Exposure out of proportion: the part that would have to change owners to be as what they interact.

    sum_o |a_o / sum a - e_o / sum e| / 2, from 0 (in proportion) to 1. Half the unfairness of Biega, Gummadi and
    Weikum, Equity of attention, SIGIR 2018, with interactions in the place of relevance.
    """
    acts_O, shown_O = _of_owners(exposure)
    if not acts_O.sum() or not shown_O.sum():
        return None
    return float(np.abs(acts_O / acts_O.sum() - shown_O / shown_O.sum()).sum() / 2)


def _of_owners(exposure: Exposure) -> tuple[np.ndarray, np.ndarray]:
    """(a_o, e_o) of every user who owns an item, float64 [O]."""
    training = exposure.training
    assert training.owners_V1 is not None
    shown_U1 = np.bincount(training.owners_V1, exposure.counts_V1, minlength=len(training.interactions_U1))
    owners_O = np.unique(training.owners_V1[1:])
    owners_O = owners_O[owners_O > 0]
    return training.interactions_U1[owners_O].astype(np.float64), shown_U1[owners_O]


def mean_ranks(values_O: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties at their mean.

    >>> mean_ranks(np.array([3, 1, 3])).tolist()
    [2.5, 1.0, 2.5]
    """
    rising_O = np.sort(values_O)
    return (np.searchsorted(rising_O, values_O, "left") + np.searchsorted(rising_O, values_O, "right") + 1) / 2


METRICS = {
    "owner_correlation": ExposureMetric(value=owner_correlation, needs=NEEDS),
    "owner_imbalance": ExposureMetric(value=owner_imbalance, needs=NEEDS, higher_is_better=False),
}
