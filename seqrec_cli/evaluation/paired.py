"""Runs on the same users: each one's metrics with their intervals, and how far the differences to the first are from
chance.

Legend: T targets, N labelled candidates, S metrics of runs, B resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.evaluation.delong import Placements, placements
from seqrec_cli.evaluation.intervals import (
    bootstrap,
    bootstrap_p,
    detectable,
    holm,
    normal_interval,
    normal_p,
    percentile_interval,
    user_interval,
)
from seqrec_cli.evaluation.stored import StoredClicks, StoredRanks, is_click_metric
from seqrec_cli.evaluation.user_sums import UserSums, standard_error
from seqrec_cli.metrics.kinds import MetricError

DELONG = "auc (DeLong)"  # next to `auc`, in which users are resampled
Interval = tuple[float, float]


@dataclass(frozen=True)
class Compared:
    """One run's metric, and its difference to the first run's; the first run has no p-values.

    `error` is the standard error of the difference, `p_holm` its p-value corrected for all that were asked together,
    `detectable` the smallest difference that 80 of 100 such logs would show.
    """

    mean: float
    interval: Interval
    difference: float = 0.0
    error: float = 0.0
    difference_interval: Interval = (0.0, 0.0)
    p: float | None = None
    p_holm: float | None = None
    detectable: float | None = None


Table = Mapping[str, Sequence[Compared]]  # by metric: every run, the first one first


@dataclass(frozen=True)
class Stored:
    """What one run left behind; `clicks` where click metrics are asked for."""

    ranks: StoredRanks
    clicks: StoredClicks | None

    def sums(self, metric: str) -> UserSums:
        """The metric's sums by user."""
        if not is_click_metric(metric):
            return self.ranks.sums(metric)
        assert self.clicks is not None
        return self.clicks.sums(metric)


def same_targets(runs: Sequence[Stored], names: Sequence[str]) -> None:
    """Raises SeqrecError where two runs were asked for other users or other items."""
    first = runs[0]
    for name, run in zip(names[1:], runs[1:], strict=True):
        pairs = [("users", first.ranks.users_T, run.ranks.users_T), ("items", first.ranks.items_T, run.ranks.items_T)]
        if first.clicks is not None and run.clicks is not None:
            pairs += [("candidates", first.clicks.items_N, run.clicks.items_N)]
            pairs += [("labels", first.clicks.labels_N, run.clicks.labels_N)]
        for what, one, other in pairs:
            if not np.array_equal(one, other):
                raise SeqrecError(f"{names[0]} and {name} ranked other {what}; evaluate both on the same data")


def compared(runs: Sequence[Stored], metrics: Sequence[str], *, resamples: int, seed: int) -> dict[str, list[Compared]]:
    """Every metric of every run, paired with the first run's user by user.

    Metrics that do not exist here (an AUC where all labels are of one class) are left out. With `auc` comes DeLong's.
    """
    found: dict[str, list[Compared]] = {}
    for kind in (False, True):
        sums = _existing(runs, [metric for metric in metrics if is_click_metric(metric) is kind])
        if not sums:
            continue
        flat = [each for of_runs in sums.values() for each in of_runs]
        values_SB = bootstrap(flat, resamples=resamples, seed=seed)
        for nth, (metric, of_runs) in enumerate(sums.items()):
            part_SB = values_SB[nth * len(runs) : (nth + 1) * len(runs)]
            found[metric] = [_first(of_runs[0])] + [
                _against(of_runs[0], other, differences_B=part_SB[number] - part_SB[0])
                for number, other in enumerate(of_runs[1:], 1)
            ]
    if "auc" in found:
        clicks = [run.clicks for run in runs if run.clicks is not None]
        found[DELONG] = by_delong([placements(each.labels_N, each.logits_N) for each in clicks])
    order = [name for metric in metrics for name in ((metric, DELONG) if metric == "auc" else (metric,))]
    return {metric: found[metric] for metric in order if metric in found}


def _existing(runs: Sequence[Stored], metrics: Sequence[str]) -> dict[str, list[UserSums]]:
    found = {}
    for metric in metrics:
        try:
            found[metric] = [run.sums(metric) for run in runs]
        except MetricError:
            continue
    return found


def _first(sums: UserSums) -> Compared:
    return Compared(sums.value, user_interval(sums))


def _against(first: UserSums, other: UserSums, *, differences_B: np.ndarray) -> Compared:
    error = standard_error(other.influences_U - first.influences_U)
    return Compared(
        other.value,
        user_interval(other),
        other.value - first.value,
        error,
        percentile_interval(differences_B),
        bootstrap_p(differences_B),
        None,
        detectable(error),
    )


def by_delong(runs: Sequence[Placements]) -> list[Compared]:
    """AUC of each run and its difference to the first, with candidates taken as independent."""
    found = []
    for number, run in enumerate(runs):
        alone = Compared(run.auc, normal_interval(run.auc, run.error))
        gain = run.minus(runs[0])
        found.append(
            alone
            if not number
            else replace(
                alone,
                difference=gain.auc,
                error=gain.error,
                difference_interval=normal_interval(gain.auc, gain.error),
                p=normal_p(gain.auc, gain.error),
                detectable=detectable(gain.error),
            )
        )
    return found


def corrected(tables: Sequence[Table]) -> list[dict[str, list[Compared]]]:
    """The tables with `p_holm`: one family of all their p-values. DeLong's ask the same as AUC's and are left out."""
    asked = [
        (nth, metric, number, each.p)
        for nth, table in enumerate(tables)
        for metric, runs in table.items()
        for number, each in enumerate(runs)
        if each.p is not None and metric != DELONG
    ]
    found = [{metric: list(runs) for metric, runs in table.items()} for table in tables]
    for (nth, metric, number, _), p_holm in zip(asked, holm([p for *_, p in asked]), strict=True):
        found[nth][metric][number] = replace(found[nth][metric][number], p_holm=p_holm)
    return found
