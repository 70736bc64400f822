"""Metrics of ranks: where a request's targets stand among all its candidates.

A request has R targets (usually one); `rel_i` is 1 where position i holds a target, else 0. How ties are read:
`kinds.TargetRanks`. Every value is a mean over requests. Random expectations: the targets are a subset of size T of the
n candidates, each subset with equal chance.

Legend: R requests, T targets, P pairs of candidates and targets.
"""

import numpy as np

from seqrec_cli.metrics.kinds import RankMetric, TargetRanks


def _within(ranks: TargetRanks, k: int | None) -> np.ndarray:
    """1 for each target in the first k, [T]."""
    return np.ones(len(ranks.positions_T)) if k is None else (ranks.positions_T <= k).astype(np.float64)


def _reach(candidates_P: np.ndarray, k: int | None) -> np.ndarray:
    """How many positions count."""
    return candidates_P if k is None else np.minimum(k, candidates_P)


def _sums_to(values_V: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, 2, ... values."""
    return np.concatenate([[0.0], np.cumsum(values_V)])


def _missed(candidates_P: np.ndarray, targets_P: np.ndarray, k: int) -> np.ndarray:
    """The chance that no target is among the first 0, 1, ..., k: C(n - i, T) / C(n, T), float64 [k + 1, P]."""
    before_KP = np.arange(k)[:, None]
    left_KP = np.maximum(candidates_P - before_KP, 1)
    steps_KP = np.maximum(candidates_P - targets_P - before_KP, 0) / left_KP
    return np.concatenate([np.ones((1, len(candidates_P))), np.cumprod(steps_KP, axis=0)])


def hr(ranks: TargetRanks, k: int | None) -> np.ndarray:
    """Hit rate: the share of requests with a target among the first k.

    HR@k = 1 where some rel_i = 1 for i <= k, else 0. Deshpande and Karypis, Item-based top-N recommendation algorithms,
    TOIS 2004.

    >>> hr(TargetRanks.single(np.array([1.0, 3.0, 2.5]), np.array([9, 9, 9])), 2)
    array([1., 0., 0.])
    """
    return np.ones(len(ranks.first_R)) if k is None else (ranks.first_R <= k).astype(np.float64)


def _hr_at_random(candidates_P: np.ndarray, targets_P: np.ndarray, k: int | None) -> np.ndarray:
    return np.ones(len(candidates_P)) if k is None else 1 - _missed(candidates_P, targets_P, k)[-1]


def precision(ranks: TargetRanks, k: int | None) -> np.ndarray:
    """Precision: the share of the first k that are targets.

    P@k = sum_{i <= k} rel_i / k. With one target it is HR@k / k. Manning, Raghavan and Schütze, Introduction to
    Information Retrieval (2008), 8.4.

    >>> precision(TargetRanks(np.array([1.0, 4.0, 2.0]), np.array([0, 2, 3]), np.array([9, 9])), 4)
    array([0.5 , 0.25])
    """
    assert k is not None
    return ranks.sum(_within(ranks, k)) / k


def _precision_at_random(candidates_P: np.ndarray, targets_P: np.ndarray, k: int | None) -> np.ndarray:
    assert k is not None
    return targets_P * _reach(candidates_P, k) / candidates_P / k


def recall(ranks: TargetRanks, k: int | None) -> np.ndarray:
    """Recall: the share of a request's targets that are among the first k.

    Recall@k = sum_{i <= k} rel_i / R. With one target it is HR@k. Manning, Raghavan and Schütze (2008), 8.3.

    >>> recall(TargetRanks(np.array([1.0, 4.0, 2.0]), np.array([0, 2, 3]), np.array([9, 9])), 3)
    array([0.5, 1. ])
    """
    return ranks.sum(_within(ranks, k)) / ranks.counts_R


def _recall_at_random(candidates_P: np.ndarray, targets_P: np.ndarray, k: int | None) -> np.ndarray:
    return _reach(candidates_P, k) / candidates_P


def ndcg(ranks: TargetRanks, k: int | None) -> np.ndarray:
    """Normalised discounted cumulative gain: a target counts 1 / log2(position + 1), over the best that was possible.

    NDCG@k = sum_{i <= k} rel_i / log2(i + 1) / sum_{i <= min(k, R)} 1 / log2(i + 1). Järvelin and Kekäläinen,
    Cumulated gain-based evaluation of IR techniques, TOIS 2002, with binary gains and the discount log2(i + 1).

    >>> ndcg(TargetRanks.single(np.array([1.0, 3.0, 4.0]), np.array([9, 9, 9])), 3)
    array([1. , 0.5, 0. ])
    """
    gains_T = _within(ranks, k) / np.log2(ranks.positions_T + 1)
    return ranks.sum(gains_T) / _ideal(ranks.counts_R, k)


def _ideal(targets_P: np.ndarray, k: int | None) -> np.ndarray:
    best = _sums_to(1 / np.log2(np.arange(1, int(targets_P.max()) + 1) + 1))
    return best[_reach(targets_P, k)]


def _ndcg_at_random(candidates_P: np.ndarray, targets_P: np.ndarray, k: int | None) -> np.ndarray:
    gains = _sums_to(1 / np.log2(np.arange(1, int(_reach(candidates_P, k).max()) + 1) + 1))
    return targets_P / candidates_P * gains[_reach(candidates_P, k)] / _ideal(targets_P, k)


def mrr(ranks: TargetRanks, k: int | None) -> np.ndarray:
    """Mean reciprocal rank: one over the position of the first target (0 if that is beyond k).

    RR = 1 / min {i: rel_i = 1}. Voorhees, The TREC-8 question answering track report, 1999.

    >>> mrr(TargetRanks.single(np.array([1.0, 2.5, 4.0]), np.array([9, 9, 9])), 3)
    array([1. , 0.4, 0. ])
    """
    return 1 / ranks.first_R * hr(ranks, k)


def _mrr_at_random(candidates_P: np.ndarray, targets_P: np.ndarray, k: int | None) -> np.ndarray:
    if k is not None:
        chances_KP = -np.diff(_missed(candidates_P, targets_P, k), axis=0)
        expected_P: np.ndarray = (1 / np.arange(1, k + 1)) @ chances_KP
        return expected_P
    # sum_i C(n - i, T - 1) / i = C(n, T - 1) (H_n - H_{T - 1}), H the harmonic numbers.
    harmonic = _sums_to(1 / np.arange(1, int(candidates_P.max()) + 1))
    return targets_P / (candidates_P - targets_P + 1) * (harmonic[candidates_P] - harmonic[targets_P - 1])


def average_precision(ranks: TargetRanks, k: int | None) -> np.ndarray:
    """Mean average precision: the mean over the targets of the precision at each one's position.

    AP@k = sum_{i <= k} rel_i P@i / min(k, R), so that the best order has 1 (some divide by R, or by the targets
    that were found). With one target it is MRR@k. Manning, Raghavan and Schütze (2008), 8.4; the divisor
    is Kaggle's.

    >>> average_precision(TargetRanks(np.array([1.0, 4.0, 2.0]), np.array([0, 2, 3]), np.array([9, 9])), 4)
    array([0.75, 0.5 ])
    """
    summed_R = ranks.sum(_within(ranks, k) * ranks.nth_T / ranks.positions_T)
    return summed_R / _reach(ranks.counts_R, k)


def _average_precision_at_random(candidates_P: np.ndarray, targets_P: np.ndarray, k: int | None) -> np.ndarray:
    # A target at i has (i - 1)(T - 1) / (n - 1) others above it.
    reach_P = _reach(candidates_P, k)
    harmonic_P = _sums_to(1 / np.arange(1, int(reach_P.max()) + 1))[reach_P]
    others_P = (targets_P - 1) / np.maximum(candidates_P - 1, 1)
    sums_P = harmonic_P + others_P * (reach_P - harmonic_P)
    return targets_P / candidates_P * sums_P / _reach(targets_P, k)


def r_precision(ranks: TargetRanks, k: int | None) -> np.ndarray:
    """R-precision: the share of the first R that are targets, R being how many targets there are.

    RPrec = sum_{i <= R} rel_i / R. With one target it is HR@1: a first position that is shared is none. Manning,
    Raghavan and Schütze (2008), 8.4.

    >>> r_precision(TargetRanks(np.array([1.0, 4.0, 2.0]), np.array([0, 2, 3]), np.array([9, 9])), None)
    array([0.5, 0. ])
    """
    reached_T = ranks.positions_T <= ranks.counts_R[ranks.requests_T]
    return ranks.sum(reached_T.astype(np.float64)) / ranks.counts_R


def _r_precision_at_random(candidates_P: np.ndarray, targets_P: np.ndarray, k: int | None) -> np.ndarray:
    return targets_P / candidates_P


def corpus_auc(ranks: TargetRanks, k: int | None) -> np.ndarray:
    """AUC over the corpus: the share of the pairs of a target and another candidate in which the target stands above.

    AUC = 1 - (sum of the R ranks - R (R + 1) / 2) / (R (n - R)), ties counting half; with one target
    1 - (rank - 1) / (n - 1). Where all candidates are targets there is no pair: .5, as for a constant. Mann and
    Whitney, Annals of Mathematical Statistics 1947.

    >>> corpus_auc(TargetRanks.single(np.array([1.0, 3.0, 2.5]), np.array([5, 3, 4])), None)
    array([1. , 0. , 0.5])
    """
    targets_R = ranks.counts_R
    pairs_R = targets_R * (ranks.candidates_R - targets_R)
    lost_R = ranks.sum(ranks.positions_T) - targets_R * (targets_R + 1) / 2
    return np.where(pairs_R > 0, 1 - lost_R / np.maximum(pairs_R, 1), 0.5)


def _corpus_auc_at_random(candidates_P: np.ndarray, targets_P: np.ndarray, k: int | None) -> np.ndarray:
    return np.full(len(candidates_P), 0.5)


METRICS = {
    "hr": RankMetric(value=hr, at_random=_hr_at_random, forms=("@k",), shown="@k"),
    "ndcg": RankMetric(value=ndcg, at_random=_ndcg_at_random, forms=("@k",), shown="@k"),
    "mrr": RankMetric(value=mrr, at_random=_mrr_at_random, forms=("@k", "all"), shown="all"),
    "precision": RankMetric(value=precision, at_random=_precision_at_random, forms=("@k",), needs=("several targets",)),
    "recall": RankMetric(value=recall, at_random=_recall_at_random, forms=("@k",), needs=("several targets",)),
    "map": RankMetric(
        value=average_precision,
        at_random=_average_precision_at_random,
        forms=("@k", "all"),
        needs=("several targets",),
    ),
    "r_precision": RankMetric(value=r_precision, at_random=_r_precision_at_random),
    "corpus_auc": RankMetric(value=corpus_auc, at_random=_corpus_auc_at_random, shown="all"),
}
