"""How far a metric may be from its value for all users that there could be: intervals, p-values, what can be detected.

Users are what is drawn; a user's requests and candidates go together. One metric has a normal interval (value ± 1.96
standard errors). A difference of two runs has a percentile bootstrap interval (Efron and Tibshirani 1993, ch. 13), in
which each resample of users serves all runs and metrics, so that what is easy for one run and easy for the other
cancels.

Legend: U users, S metrics, B resamples, K columns of sums, G groups of users, P p-values.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from seqrec_cli.evaluation.user_sums import UserSums, standard_error

CONFIDENCE, POWER = 0.95, 0.8
TWO_SIDED = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
MOST_GROUPS = 20_000  # users resampled one by one; more are dealt into so many groups
CHUNK = 256  # resamples counted before they are multiplied


def normal_interval(value: float, error: float) -> tuple[float, float]:
    """95 % by the standard error."""
    return value - TWO_SIDED * error, value + TWO_SIDED * error


def user_interval(sums: UserSums) -> tuple[float, float]:
    """95 % of one metric, by the standard error over users."""
    return normal_interval(sums.value, standard_error(sums.influences_U))


def detectable(error: float) -> float:
    """The difference that a two-sided test at 5 % finds in 80 of 100 logs, if it is there: (1.96 + .84) errors."""
    return (TWO_SIDED + NormalDist().inv_cdf(POWER)) * error


def normal_p(difference: float, error: float) -> float:
    """Two-sided, of no difference."""
    if not error > 0:
        return 1.0 if difference == 0 else float("nan")
    return 2 * NormalDist().cdf(-abs(difference) / error)


def bootstrap(metrics: Sequence[UserSums], *, resamples: int, seed: int) -> np.ndarray:
    """Every metric's value in every resample of the users, float64 [S, B]; the same users for all metrics of one.

    Of more than MOST_GROUPS users random groups of like size are resampled whole: groups of independent users are
    independent too, and the cost stays flat.
    """
    rng = np.random.default_rng(seed)
    columns, at = _columns(metrics)
    columns_KU = np.stack(columns)
    users = columns_KU.shape[1]
    if users > MOST_GROUPS:
        group_U = rng.permutation(users) % MOST_GROUPS
        columns_KU = np.stack([np.bincount(group_U, column_U, MOST_GROUPS) for column_U in columns_KU])
        users = MOST_GROUPS
    columns_UK, sums_BK = np.ascontiguousarray(columns_KU.T), np.empty((resamples, len(columns)))
    for first in range(0, resamples, CHUNK):
        rows = range(first, min(first + CHUNK, resamples))
        draws = (rng.integers(users, size=users, dtype=np.int32) for _ in rows)
        counts_BU = np.stack([np.bincount(drawn, minlength=users) for drawn in draws]).astype(np.float64)
        sums_BK[rows.start : rows.stop] = counts_BU @ columns_UK
    values_SB = np.empty((len(metrics), resamples))
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample without a positive has no AUC: NaN
        for nth, (metric, (tops, bottoms)) in enumerate(zip(metrics, at, strict=True)):
            values_SB[nth] = (sums_BK[:, tops] / sums_BK[:, bottoms]).sum(axis=1) + metric.constant
    return values_SB


def _columns(metrics: Sequence[UserSums]) -> tuple[list[np.ndarray], list[tuple[list[int], list[int]]]]:
    """The distinct rows of tops and bottoms, and for each metric where its own are: most metrics share bottoms."""
    columns: list[np.ndarray] = []
    known: dict[bytes, int] = {}

    def column(row_U: np.ndarray) -> int:
        key = row_U.tobytes()
        if key not in known:
            known[key] = len(columns)
            columns.append(row_U)
        return known[key]

    at = [([column(row) for row in each.tops_TU], [column(row) for row in each.bottoms_TU]) for each in metrics]
    return columns, at


def percentile_interval(values_B: np.ndarray) -> tuple[float, float]:
    """95 % of the resampled values."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(values_B, (tail, 1 - tail))
    return float(low), float(high)


def bootstrap_p(differences_B: np.ndarray) -> float:
    """Two-sided, of no difference: at which level the percentile interval would just reach 0.

    Counted with one resample more on either side (Davison and Hinkley 1997, sec. 4.2), so never 0.
    """
    known_B = differences_B[~np.isnan(differences_B)]
    fewer = min(np.count_nonzero(known_B <= 0), np.count_nonzero(known_B >= 0))
    return float(min(1.0, 2 * (fewer + 1) / (len(known_B) + 1)))


def holm(values_P: Sequence[float]) -> list[float]:
    """p-values corrected for their number: Holm 1979, Scandinavian Journal of Statistics 6(2).

    The smallest is multiplied by their number, the next by one less, ...; none is smaller than one before it.
    """
    order = np.argsort(values_P, kind="stable")
    stepped = np.asarray(values_P, np.float64)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    found: list[float] = corrected.tolist()
    return found
