"""Which items are recommended: how much of the catalogue, how popular it is, how evenly it is shown.

A list holds the first k items of a request. c_i is how often item i stands in a list, V the number of items; popularity
is counted on the training events.

Legend: V1 items and padding.
"""

import numpy as np

from seqrec_cli.metrics.kinds import Exposure, ExposureMetric, Training

HEAD = 0.2  # the part of the catalogue that is called its head


def _mean_shown(exposure: Exposure, values_V1: np.ndarray) -> float | None:
    """The mean of a value over all recommended items."""
    counts_V1 = exposure.counts_V1
    total = counts_V1.sum()
    return float(counts_V1 @ values_V1 / total) if total else None


def coverage(exposure: Exposure) -> float | None:
    """Catalogue coverage: the share of all items that stand in some list.

    Coverage@k = |{i: c_i > 0}| / V. It grows with the number of requests. Ge, Delgado-Battenfeld and Jannach, Beyond
    accuracy: evaluating recommender systems by coverage and serendipity, RecSys 2010.
    """
    return float(exposure.covered_V1[1:].mean())


def novelty(exposure: Exposure) -> float | None:
    """Novelty: the mean self-information of recommended items, in bits: how few training users have them.

    Novelty@k = sum_i c_i log2(U / U_i) / sum_i c_i, where U_i of U users have item i in training; an item that nobody
    has counts as one user's. Zhou et al., Solving the apparent diversity-accuracy dilemma of recommender systems, PNAS
    2010; Vargas and Castells, Rank and relevance in novelty and diversity metrics, RecSys 2011.
    """
    users = int(np.count_nonzero(exposure.training.interactions_U1))
    if not users:
        return None
    return _mean_shown(exposure, np.log2(users / np.maximum(exposure.training.users_V1, 1)))


def average_popularity(exposure: Exposure) -> float | None:
    """Average recommendation popularity: the mean number of training events of recommended items.

    ARP@k = sum_i c_i n_i / sum_i c_i, where item i has n_i training events. Yin et al., Challenging the long tail
    recommendation, VLDB 2012.
    """
    return _mean_shown(exposure, exposure.training.events_V1.astype(np.float64))


def gini(exposure: Exposure) -> float | None:
    """Gini index of exposure: how unevenly lists show the items, from 0 (all alike) to nearly 1 (one item alone).

    G@k = sum_i (2 i - V - 1) c_(i) / (V sum_i c_i), with c_(1) <= c_(2) <= ... over all V items. Fleder and Hosanagar,
    Blockbuster culture's next rise or fall, Management Science 2009.
    """
    return gini_index(exposure.counts_V1[1:])


def gini_index(counts_V: np.ndarray) -> float | None:
    """The Gini index of amounts that are not negative; None where all are 0.

    >>> gini_index(np.array([0, 0, 3, 0])), gini_index(np.array([2, 2])), gini_index(np.array([1, 3]))
    (0.75, 0.0, 0.25)
    """
    rising_V = np.sort(counts_V).astype(np.float64)
    items, total = len(rising_V), rising_V.sum()
    weights_V = 2 * np.arange(1, items + 1) - items - 1
    return float(weights_V @ rising_V / (items * total)) if total else None


def head_share(exposure: Exposure) -> float | None:
    """Head share: the part of recommendations that goes to the fifth of the items that are most popular in training.

    Head@k = sum of c_i over the head / sum_i c_i; where the last items of the head tie with others, each belongs to it
    in part. The long tail's share is the rest: Abdollahpouri, Burke and Mobasher, Managing popularity bias in
    recommender systems with personalized re-ranking, FLAIRS 2019.
    """
    return _mean_shown(exposure, head_weights(exposure.training))


def head_weights(training: Training) -> np.ndarray:
    """How far each item belongs to the head, float64 [V1]: together, a fifth of the items.

    >>> events_V1 = np.array([0, 9, 1, 1, 1, 1])
    >>> head_weights(Training(events_V1, events_V1, events_V1)).tolist()
    [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """
    events_V = training.events_V1[1:]
    size = HEAD * len(events_V)
    last = np.sort(events_V)[::-1][min(len(events_V) - 1, max(0, int(np.ceil(size)) - 1))]
    above_V, tied_V = events_V > last, events_V == last
    weights_V = above_V + tied_V * (size - above_V.sum()) / tied_V.sum()
    return np.concatenate([[0.0], weights_V])


METRICS = {
    "coverage": ExposureMetric(value=coverage, linear=True),
    "novelty": ExposureMetric(value=novelty, linear=True),
    "average_popularity": ExposureMetric(value=average_popularity, linear=True, higher_is_better=False),
    "gini": ExposureMetric(value=gini, higher_is_better=False),
    "head_share": ExposureMetric(value=head_share, linear=True, higher_is_better=False),
}
