"""What the rank among a few sampled items says of the metric over the whole corpus.

A target of rank r among n items has, among itself and m others drawn uniformly, a rank s whose distribution p(s | r) is
known: s - 1 of the r - 1 better items are drawn. A metric M taken at s is not M at r, not even in order of models
(Krichene and Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020, doi 10.1145/3394486.3403226). They
replace M by another function of s:

- `rank`: M(1 + (n - 1)(s - 1) / m). The rank in it is unbiased; M of it is so only for a linear M, such as the AUC.
- `cls`: the function f of least squared bias, sum_r p(r) (E[f(s) | r] - M(r))^2 with p(r) = 1 / n, constrained: a worse
  rank is worth no more, and none less than 0. (Unconstrained, it swings between large values of both signs.)
- `bv`: the function of least sum_r p(r) ((E[f(s) | r] - M(r))^2 + g Var[f(s) | r]), which trades bias for variance.
  With A[r, s] = sqrt(p(r)) p(s | r), b[r] = sqrt(p(r)) M(r) and c[s] = sum_r p(r) p(s | r) it is
  f = ((1 - g) A'A + g diag(c))^-1 A'b.

The paper draws with replacement, so that s - 1 is binomial; here no item is drawn twice, and it is hypergeometric.

Legend: n items ranked in all, m others drawn, S = m + 1 sampled ranks, Q metrics, R requests of one target each.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from seqrec_cli.metrics.kinds import TargetRanks
from seqrec_cli.metrics.table import request_metric

METHODS = ("rank", "cls", "bv")
ROWS = 1 << 14  # ranks whose chances are held at once
LIKE = 32  # requests whose n are of one 32nd part of a logarithm share their functions


def rank_chances(n: int, m: int, ranks: np.ndarray) -> np.ndarray:
    """p(s | r) for each of these ranks r and s = 1..m + 1, [len(ranks), S]."""
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])

    def log_choose(total: np.ndarray, taken: np.ndarray) -> np.ndarray:
        possible = (taken >= 0) & (taken <= total)
        total, taken = np.maximum(total, 0), np.where(possible, taken, 0)
        chosen = log_factorials[total] - log_factorials[taken] - log_factorials[total - taken]
        return np.where(possible, chosen, -np.inf)

    better, drawn_S = np.asarray(ranks, np.int64)[:, None] - 1, np.arange(m + 1)
    log_S = log_choose(better, drawn_S) + log_choose(n - 1 - better, m - drawn_S)
    chances: np.ndarray = np.exp(log_S - log_choose(np.array(n - 1), np.array(m)))
    return chances


def corrected_worths(names: Sequence[str], n: int, m: int, *, method: str, gamma: float) -> np.ndarray:
    """What each metric pays for a sampled rank 1..m + 1, [Q, S], to estimate it over all n items."""
    if m >= n - 1:  # the sample is the corpus
        return _worths(names, np.arange(1, n + 1, dtype=np.float64), n)
    if method == "rank":
        return _worths(names, 1 + (n - 1) * np.arange(m + 1) / m, n)
    triangle, c_S = _equations(tuple(names), n, m)
    a_SS, b_SQ = triangle[:, : m + 1], triangle[:, m + 1 :]
    if method == "bv":
        left = (1 - gamma) * a_SS.T @ a_SS + gamma * np.diag(c_S)
        worths: np.ndarray = np.linalg.solve(left, a_SS.T @ b_SQ).T
        return worths
    # f(s) = u(s) + u(s + 1) + ... with u >= 0 is every function that falls and is not negative.
    falling = [nonnegative_least_squares(a_SS.cumsum(axis=1), b_S) for b_S in b_SQ.T]
    return np.stack([steps_S[::-1].cumsum()[::-1] for steps_S in falling])


def corrected_metrics(
    names: Sequence[str],
    ranks_R: np.ndarray,
    *,
    sampled_R: np.ndarray,
    candidates_R: np.ndarray,
    method: str,
    gamma: float,
) -> np.ndarray:
    """Each request's estimates of the metrics over all its `candidates_R` items, [Q, R].

    `ranks_R` are ranks among the target and `sampled_R` others. A rank that ends in one half, of a tie, is worth the
    mean of the ranks beside it.
    """
    values_QR = np.zeros((len(names), len(ranks_R)))
    of_n_R = np.round(np.log(np.maximum(candidates_R, 1)) * LIKE).astype(np.int64)
    whole_R = sampled_R >= candidates_R - 1
    groups = np.stack([np.where(whole_R, -candidates_R, of_n_R), sampled_R], axis=1)
    for group in np.unique(groups, axis=0):
        here = np.flatnonzero((groups == group).all(axis=1))
        n, m = int(np.median(candidates_R[here])), int(group[1])
        worths_QS = corrected_worths(names, n, m, method=method, gamma=gamma)
        low, high = (turned(ranks_R[here]).astype(np.int64) - 1 for turned in (np.floor, np.ceil))
        values_QR[:, here] = (worths_QS[:, low] + worths_QS[:, high]) / 2
    return values_QR


def _worths(names: Sequence[str], ranks: np.ndarray, n: int) -> np.ndarray:
    read = TargetRanks.single(ranks, np.full(len(ranks), n))
    return np.stack([request_metric(name, read) for name in names])


@lru_cache(maxsize=256)  # the same for every method
def _equations(names: tuple[str, ...], n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """A and the b of each metric, brought to a triangle [<= S + Q, S + Q] with the same least squares; and c [S]."""
    triangle, c_S = np.zeros((0, m + 1 + len(names))), np.zeros(m + 1)
    for first in range(1, n + 1, ROWS):
        ranks = np.arange(first, min(first + ROWS, n + 1))
        chances, worths_QB = rank_chances(n, m, ranks), _worths(names, ranks.astype(np.float64), n)
        c_S += chances.sum(axis=0) / n
        rows = np.concatenate([chances, worths_QB.T], axis=1)
        triangle = np.asarray(np.linalg.qr(np.concatenate([triangle, rows]), mode="r"))
    return triangle / np.sqrt(n), c_S


def nonnegative_least_squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The x >= 0 of least |a x - b|, by the active-set method of Lawson and Hanson (1974, chapter 23)."""
    x, free = np.zeros(a.shape[1]), np.zeros(a.shape[1], bool)
    enough = 1e-12 * np.abs(a.T @ b).max(initial=1e-300)
    for _ in range(3 * a.shape[1]):
        gradient = a.T @ (b - a @ x)
        gradient[free] = -np.inf
        if gradient.max() <= enough:
            break
        free[gradient.argmax()] = True
        while True:
            solved = np.zeros_like(x)
            solved[free] = np.linalg.lstsq(a[:, free], b, rcond=None)[0]
            if (solved[free] > 0).all():
                break
            low = free & (solved <= 0)
            step = (x[low] / (x[low] - solved[low])).min()
            x += step * (solved - x)
            free &= x > 1e-15 * np.abs(x).max(initial=0.0)
            x[~free] = 0
            if not free.any():
                return x
        x = solved
    return x
