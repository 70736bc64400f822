"""What one list is made of, by an attribute of its items (a genre, a category): how varied, and how like the history.

Items may have several values of an attribute, or none.

Legend: B lists, K items a list, W values an item, S values in all, M events of histories, C cutoffs.
"""

import numpy as np

from seqrec_cli.metrics.kinds import ListBlock, ListMetric

ALPHA = 0.01  # of calibration's smoothing, as Steck has it
AT_ONCE = 2**22  # numbers of one temporary array
FEW_VALUES = 256  # an attribute of so few is compared by a product of indicators


def diversity(lists: ListBlock, cutoffs: tuple[int, ...]) -> np.ndarray:
    """Intra-list diversity: how much the items of a list differ in an attribute, the mean over its pairs.

    ILD@k = mean over the pairs i < j of 1 - |A_i & A_j| / |A_i | A_j|, A_i the values of item i (one value each: 0 if
    equal, 1 if not). Pairs with an item without value are left out. Ziegler et al., Improving recommendation lists
    through topic diversification, WWW 2005, as a distance: their intra-list similarity sums 1 minus it.
    """
    size = lists.items_BK.shape[1]
    found_BC = np.full((len(lists.items_BK), len(cutoffs)), np.nan)
    step = max(1, AT_ONCE // (size * max(size, min(FEW_VALUES, int(lists.values_V1W.max()) + 1))))
    for first in range(0, len(lists.items_BK), step):
        part = slice(first, first + step)
        distances_BKK, pairs_BKK = _distances(lists.values_V1W[lists.items_BK[part]])
        # Of each item, the pairs with those above it: the first k items have the pairs of their rows.
        sums_BK = np.cumsum(np.tril(distances_BKK, -1).sum(2), axis=1)
        counts_BK = np.cumsum(np.tril(pairs_BKK, -1).sum(2), axis=1)
        last_C = np.minimum(cutoffs, size) - 1
        with np.errstate(invalid="ignore"):
            found_BC[part] = sums_BK[:, last_C] / counts_BK[:, last_C]
    return found_BC


def _distances(values_BKW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Jaccard distances of a list's items, and which pairs have one, both [B, K, K]."""
    counts_BK = (values_BKW > 0).sum(2)
    lists, size, width = values_BKW.shape
    most = int(values_BKW.max(initial=0))
    if most < FEW_VALUES:
        has_BKS = np.zeros((lists, size, most + 1), np.float32)
        for place in range(width):
            np.put_along_axis(has_BKS, values_BKW[:, :, place, None], 1, axis=2)
        has_BKS[:, :, 0] = 0
        common_BKK = has_BKS @ has_BKS.transpose(0, 2, 1)
    else:
        common_BKK = np.zeros((lists, size, size), np.float32)
        for one in range(width):
            for other in range(width):
                equal_BKK = values_BKW[:, :, None, one] == values_BKW[:, None, :, other]
                common_BKK += equal_BKK & (values_BKW[:, :, None, one] > 0)
    union_BKK = counts_BK[:, :, None] + counts_BK[:, None, :] - common_BKK
    pairs_BKK = (counts_BK[:, :, None] > 0) & (counts_BK[:, None, :] > 0)
    return np.where(pairs_BKK, 1 - common_BKK / np.maximum(union_BKK, 1), 0.0), pairs_BKK


def calibration(lists: ListBlock, cutoffs: tuple[int, ...]) -> np.ndarray:
    """Miscalibration: how far a list's shares of an attribute's values are from those of the history.

    C_KL = sum_g p(g) ln(p(g) / q~(g)), q~ = (1 - a) q + a p with a = .01: p the shares in the history before the
    request, q in the list, each item with m values giving 1 / m to each. 0: the same shares; at most ln(1 / a) = 4.6.
    Histories without any value are left out. Steck, Calibrated recommendations, RecSys 2018 (all weights 1).
    """
    rows, values = len(lists.items_BK), int(lists.values_V1W.max(initial=0)) + 1
    history = _shares(lists.history_M, lists.rows_M, lists.values_V1W)
    keys_H, p_H = history
    of_H = keys_H // values
    found_BC = np.full((rows, len(cutoffs)), np.nan)
    known_B = np.bincount(of_H, minlength=rows) > 0
    known_B &= lists.items_BK[:, 0] > 0  # an empty list has no shares
    for column, k in enumerate(cutoffs):
        items_BK = lists.items_BK[:, :k]
        rows_BK = np.broadcast_to(np.arange(rows)[:, None], items_BK.shape)
        keys_Q, q_Q = _shares(items_BK.ravel(), rows_BK.ravel(), lists.values_V1W)
        places_H = np.minimum(np.searchsorted(keys_Q, keys_H), max(len(keys_Q) - 1, 0))
        q_H = np.where(keys_Q[places_H] == keys_H, q_Q[places_H], 0.0) if len(keys_Q) else np.zeros(len(keys_H))
        terms_H = p_H * np.log(p_H / ((1 - ALPHA) * q_H + ALPHA * p_H))
        found_BC[:, column] = np.where(known_B, np.bincount(of_H, terms_H, minlength=rows), np.nan)
    return found_BC


def _shares(items_M: np.ndarray, rows_M: np.ndarray, values_V1W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's shares of the values that occur in it: ascending keys (row x values + value), and the shares."""
    values_MW = values_V1W[items_M]
    real_MW = values_MW > 0
    weights_MW = real_MW / np.maximum(real_MW.sum(1, keepdims=True), 1)
    size = int(values_V1W.max(initial=0)) + 1
    keys_MW = rows_M[:, None].astype(np.int64) * size + values_MW
    keys_H, of_E = np.unique(keys_MW[real_MW], return_inverse=True)
    sums_H = np.bincount(of_E, weights_MW[real_MW], minlength=len(keys_H))
    rows_H = keys_H // size
    return keys_H, sums_H / np.bincount(rows_H, sums_H)[rows_H] if len(keys_H) else sums_H


METRICS = {
    "diversity": ListMetric(value=diversity),
    "calibration": ListMetric(value=calibration, higher_is_better=False),
}
