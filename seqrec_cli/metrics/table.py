"""The one table of metrics. Configuration, evaluation, baselines, tables, early stopping and sweeps all read it.

A new metric of ranks is one entry of `METRICS` and one test. It is then computed, written to metrics.json, given for a
random scorer, accepted by `trainer.monitor` and by `seqrec compare`.

Legend: R users with a rank, N labelled candidates, V ranks 1, 2, ....
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqrec_cli.metrics.clicks import MetricError, auc, calibration, gauc, logloss

Ranks = np.ndarray  # float64 [R], from 1; halves where scores tie
Counts = np.ndarray  # int64 [R], how many items were ranked, the target included
LOSS = "loss"  # of the objective on validation targets: `trainer.monitor` takes it, but it is no metric
Form = Literal["@k", "all"]  # with a cutoff (hr@10), or over all ranks (mrr)


@dataclass(frozen=True)
class RankMetric:
    """A mean over users of what the rank of the held-out item is worth.

    With a cutoff k, ranks beyond k are worth 0. A random scorer's rank is uniform over 1..n, from which its value
    follows by summation; a metric whose worth depends on n states it in `at_random`.
    """

    value: Callable[[Ranks, Counts], np.ndarray]
    forms: tuple[Form, ...]
    shown: Form | None  # as which form it has a column in the printed tables
    higher_is_better: bool = True
    at_random: float | None = None

    def of_users(self, ranks_R: Ranks, candidates_R: Counts, k: int | None) -> np.ndarray:
        """Each user's value, [R]."""
        values_R = self.value(ranks_R, candidates_R)
        return values_R if k is None else np.where(ranks_R <= k, values_R, 0.0)

    def expected_at_random(self, candidates_R: Counts, k: int | None) -> float:
        """The mean over users of the value of a rank that is uniform over 1..candidates."""
        if self.at_random is not None:
            return self.at_random
        ranks_V = np.arange(1, int(candidates_R.max()) + 1, dtype=np.float64)
        no_count_V = np.full(len(ranks_V), np.nan)  # so that a value that needs n, and no `at_random`, gives NaN
        sums_V1 = np.concatenate([[0.0], np.cumsum(self.value(ranks_V, no_count_V))])
        reached_R = candidates_R if k is None else np.minimum(k, candidates_R)
        return float((sums_V1[reached_R] / candidates_R).mean())


@dataclass(frozen=True)
class ClickMetric:
    """A number of all labelled candidates: of their labels, logits and (where `needs_users`) their users, each [N]."""

    value: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
    expected_at_random: Callable[[float], float]  # of logits that are all 0, by the share of positives
    shown: bool
    higher_is_better: bool = True
    needs_users: bool = False


METRICS: dict[str, RankMetric | ClickMetric] = {
    "hr": RankMetric(lambda ranks, _: np.ones_like(ranks), forms=("@k",), shown="@k"),
    "ndcg": RankMetric(lambda ranks, _: 1 / np.log2(ranks + 1), forms=("@k",), shown="@k"),  # one relevant item
    "mrr": RankMetric(lambda ranks, _: 1 / ranks, forms=("@k", "all"), shown="all"),
    # With one relevant item R = 1: the share of relevant items among the first R. A first place that is shared is none.
    "r_precision": RankMetric(lambda ranks, _: (ranks <= 1).astype(np.float64), forms=("all",), shown=None),
    # The share of the other candidates that rank below the target. An only candidate has none: .5, as for a constant.
    "corpus_auc": RankMetric(
        lambda ranks, n: np.where(n > 1, 1 - (ranks - 1) / np.maximum(n - 1, 1), 0.5),
        forms=("all",),
        shown="all",
        at_random=0.5,
    ),
    "auc": ClickMetric(lambda y, z, _: auc(y, z), lambda share: 0.5, shown=True),
    "gauc": ClickMetric(gauc, lambda share: 0.5, shown=True, needs_users=True),
    "logloss": ClickMetric(
        lambda y, z, _: logloss(y, z), lambda share: math.log(2), shown=True, higher_is_better=False
    ),
    # In metrics.json and in the reliability diagram; one more column would not fit 80 characters.
    "ece": ClickMetric(
        lambda y, z, _: calibration(y, z).error, lambda share: abs(0.5 - share), shown=False, higher_is_better=False
    ),
}
CLICK_METRICS = tuple(name for name, metric in METRICS.items() if isinstance(metric, ClickMetric))


def parse_metric(name: str) -> tuple[RankMetric | ClickMetric, int | None]:
    """The entry that a name like `hr@10` or `auc` means, and its cutoff. Raises MetricError for any other name."""
    kind, at, cutoff = name.partition("@")
    metric, k = METRICS.get(kind), int(cutoff) if cutoff.isascii() and cutoff.isdigit() else 0
    forms = () if metric is None else metric.forms if isinstance(metric, RankMetric) else ("all",)
    if metric is None or ("@k" if at else "all") not in forms or (at and not k):
        have = _written(METRICS)
        close = difflib.get_close_matches(f"{kind}@k" if at else kind, have, n=1, cutoff=0.5)
        nearest = f"; did you mean '{close[0]}'?" if close else ""
        raise MetricError(f"{name} is no metric{nearest} (have: {', '.join(have)})")
    return metric, k or None


def rank_metric(name: str) -> tuple[RankMetric, int | None]:
    """`parse_metric` for the metrics of ranks, which each user has. Raises MetricError for any other name."""
    metric, k = parse_metric(name)
    if isinstance(metric, RankMetric):
        return metric, k
    of_ranks = [kind for kind, other in METRICS.items() if isinstance(other, RankMetric)]
    raise MetricError(f"{name} is no metric of ranks (have: {', '.join(_written(of_ranks))})")


def metric_names(cutoffs: tuple[int, ...]) -> tuple[str, ...]:
    """Every metric that an evaluation yields, by the names used in every file and table."""
    at_cutoffs, whole = [], []
    for kind, metric in METRICS.items():
        forms = metric.forms if isinstance(metric, RankMetric) else ("all",)
        at_cutoffs += [f"{kind}@{k}" for k in cutoffs if "@k" in forms]
        whole += [kind] if "all" in forms else []
    return (*at_cutoffs, *whole)


def lower_is_better(name: str) -> bool:
    """True for metrics that fall as a model improves, and for the loss."""
    return name == LOSS or not parse_metric(name)[0].higher_is_better


def user_metric(name: str, ranks_R: Ranks, candidates_R: Counts) -> np.ndarray:
    """Each user's part [R] of a metric of ranks. A rank counts at k if rank <= k."""
    metric, k = rank_metric(name)
    return metric.of_users(ranks_R, candidates_R, k)


def compute_metrics(
    cutoffs: tuple[int, ...],
    *,
    ranks_R: Ranks,
    candidates_R: Counts,
    labels_N: np.ndarray,
    logits_N: np.ndarray,
    users_N: np.ndarray,
) -> dict[str, float]:
    """All of `metric_names(cutoffs)`. Raises MetricError where a click metric does not exist (see `clicks.py`)."""
    found = {}
    for name in metric_names(cutoffs):
        metric, k = parse_metric(name)
        if isinstance(metric, RankMetric):
            found[name] = float(metric.of_users(ranks_R, candidates_R, k).mean())
        else:
            found[name] = metric.value(labels_N, logits_N, users_N)
    return found


def expected_at_random(cutoffs: tuple[int, ...], candidates_R: Counts, share_positive: float) -> dict[str, float]:
    """What a scorer that knows nothing is expected to have: uniform ranks, and click logits of 0."""
    found = {}
    for name in metric_names(cutoffs):
        metric, k = parse_metric(name)
        if isinstance(metric, RankMetric):
            found[name] = metric.expected_at_random(candidates_R, k)
        else:
            found[name] = metric.expected_at_random(share_positive)
    return found


def table_columns(names: tuple[str, ...], k: int) -> tuple[str, ...]:
    """Those of `names` that have a column in the printed tables, metrics with a cutoff at `k`."""
    columns = []
    for kind, metric in METRICS.items():
        if metric.shown:
            columns.append(f"{kind}@{k}" if metric.shown == "@k" else kind)
    return tuple(column for column in columns if column in names)


def _written(kinds: "list[str] | dict[str, RankMetric | ClickMetric]") -> list[str]:
    """Names as a person writes them: hr@k, mrr@k, mrr, auc."""
    names = []
    for kind in kinds:
        metric = METRICS[kind]
        forms = metric.forms if isinstance(metric, RankMetric) else ("all",)
        names += [f"{kind}@k" if form == "@k" else kind for form in forms]
    return names
