"""The one table of metrics. Configuration, evaluation, baselines, tables, early stopping and sweeps all read it.

A new metric is one entry of its family's file and one test. It is then computed, written to metrics.json, given for a
random scorer, listed by `seqrec metrics`, accepted by `trainer.monitor` and, if of ranks, by `seqrec compare`.

Legend: R requests, T targets, N labelled candidates.
"""

import difflib
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from seqrec_cli.metrics import clicks, diversity, owners, popularity, ranking
from seqrec_cli.metrics.kinds import ClickMetric, Metric, MetricError, Need, RankedTargets, RankMetric, TargetRanks

METRICS: dict[str, Metric] = {
    **ranking.METRICS,
    **clicks.METRICS,
    **popularity.METRICS,
    **diversity.METRICS,
    **owners.METRICS,
}
LOSS = "loss"  # of the objective on validation targets: `trainer.monitor` takes it, but it is no metric
CLICK_METRICS = tuple(clicks.METRICS)
CLICKS: tuple[Need, ...] = ("click candidates",)
SEVERAL: Need = "several targets"
LISTS: Need = "top lists"
ATTRIBUTE: Need = "item attribute"
OWNERS: Need = "item owners"
ANY = "ATTRIBUTE"  # in a name, where an item attribute of the dataset is meant


def parse_metric(name: str) -> tuple[Metric, int | None]:
    """The entry that a name like `hr@10`, `auc` or `diversity:genres@10` means, and its cutoff.

    Raises MetricError for any other name.
    """
    head, at, cutoff = name.partition("@")
    kind, colon, attribute = head.partition(":")
    metric, k = METRICS.get(kind), int(cutoff) if cutoff.isascii() and cutoff.isdigit() else 0
    of_attribute = bool(attribute) if colon else False
    if (
        metric is None
        or ("@k" if at else "all") not in metric.forms
        or (at and not k)
        or of_attribute != (ATTRIBUTE in metric.needs)
    ):
        have = written_names(METRICS)
        asked = f"{kind}{f':{ANY}' if colon else ''}{'@k' if at else ''}"
        close = difflib.get_close_matches(asked, have, n=1, cutoff=0.5)
        nearest = f"; did you mean '{close[0]}'?" if close else ""
        raise MetricError(f"{name} is no metric{nearest} (have: {', '.join(have)})")
    return metric, k or None


def kind_named(name: str) -> str:
    """The key of the table that `ndcg`, `ndcg@10` or `diversity:genres@10` means. Raises MetricError for others."""
    kind = name.partition("@")[0].partition(":")[0]
    if kind not in METRICS:
        close = difflib.get_close_matches(kind, METRICS, n=1, cutoff=0.5)
        nearest = f"; did you mean '{close[0]}'?" if close else ""
        raise MetricError(f"{name} is no metric{nearest} (have: {', '.join(METRICS)})")
    return kind


def is_list_metric(name: str) -> bool:
    """True for metrics of recommended lists."""
    return name != LOSS and LISTS in parse_metric(name)[0].needs


def rank_metric(name: str) -> tuple[RankMetric, int | None]:
    """`parse_metric` for the metrics of ranks, which each request has. Raises MetricError for any other name."""
    metric, k = parse_metric(name)
    if isinstance(metric, RankMetric):
        return metric, k
    raise MetricError(f"{name} is no metric of ranks (have: {', '.join(written_names(ranking.METRICS))})")


def metric_names(
    cutoffs: tuple[int, ...], have: Collection[Need] = CLICKS, attributes: Sequence[str] = ()
) -> tuple[str, ...]:
    """Every metric that an evaluation yields, by the names used in every file and table.

    `have`: what the evaluation has of what metrics need; `attributes`: the items' attributes.
    """
    at_cutoffs: list[str] = []
    whole: list[str] = []
    of_lists: list[str] = []
    for kind, metric in METRICS.items():
        if not set(metric.needs) <= set(have):
            continue
        heads = [f"{kind}:{name}" for name in attributes] if ATTRIBUTE in metric.needs else [kind]
        names = of_lists if LISTS in metric.needs else at_cutoffs
        names += [f"{head}@{k}" for head in heads for k in cutoffs if "@k" in metric.forms]
        whole += [kind] if "all" in metric.forms else []
    return (*at_cutoffs, *whole, *of_lists)


def monitored_metric(name: str, cutoffs: tuple[int, ...], *, lists: bool) -> None:
    """Raises MetricError where no evaluation of these cutoffs yields the metric, whatever attributes there are."""
    metric, k = parse_metric(name)
    if k is not None and k not in cutoffs:
        raise MetricError(f"{name} is not measured: evaluation.cutoffs has {', '.join(map(str, cutoffs))}")
    if LISTS in metric.needs and not lists:
        raise MetricError(f"{name} is measured with evaluation.beyond_accuracy=true")


def rank_metric_names(cutoffs: tuple[int, ...]) -> tuple[str, ...]:
    """Those of `metric_names` that are metrics of ranks."""
    return tuple(name for name in metric_names(cutoffs) if isinstance(parse_metric(name)[0], RankMetric))


def lower_is_better(name: str) -> bool:
    """True for metrics that fall as a model improves, and for the loss."""
    return name == LOSS or not parse_metric(name)[0].higher_is_better


def request_metric(name: str, ranks: RankedTargets) -> np.ndarray:
    """Each request's part [R] of a metric of ranks."""
    metric, k = rank_metric(name)
    return metric.value(TargetRanks.of(ranks), k)


def several_targets(ranks: RankedTargets) -> bool:
    """Whether some request has more than one target, so that recall differs from HR."""
    return len(ranks.ranks_T) > len(ranks.candidates_R)


def compute_metrics(
    cutoffs: tuple[int, ...],
    *,
    ranks: RankedTargets,
    labels_N: np.ndarray | None = None,
    logits_N: np.ndarray | None = None,
    users_N: np.ndarray | None = None,
) -> dict[str, float]:
    """All of `metric_names(cutoffs)`, and what several targets add; click metrics where there are candidates.

    Raises MetricError where a click metric does not exist for such labels or logits (see `clicks.py`).
    """
    have, read, found = _have(ranks, labels_N is not None), TargetRanks.of(ranks), {}
    for name in metric_names(cutoffs, have):
        metric, k = parse_metric(name)
        if isinstance(metric, RankMetric):
            found[name] = float(metric.value(read, k).mean())
        elif isinstance(metric, ClickMetric):
            assert labels_N is not None
            assert logits_N is not None
            assert users_N is not None
            found[name] = metric.of(labels_N, logits_N, users_N)
    return found


def expected_at_random(
    cutoffs: tuple[int, ...], *, ranks: RankedTargets, share_positive: float | None = None
) -> dict[str, float]:
    """What a scorer that knows nothing is expected to have on the same requests: uniform ranks, and click logits of 0.

    `share_positive`: of the click candidates; None where there are none.
    """
    read, found = TargetRanks.of(ranks), {}
    for name in metric_names(cutoffs, _have(ranks, share_positive is not None)):
        metric, k = parse_metric(name)
        if isinstance(metric, RankMetric):
            found[name] = metric.expected_at_random(read, k)
        elif isinstance(metric, ClickMetric):
            assert share_positive is not None
            found[name] = metric.at_random(share_positive)
    return found


def _have(ranks: RankedTargets, click_candidates: bool) -> tuple[Need, ...]:
    several: tuple[Need, ...] = (SEVERAL,) if several_targets(ranks) else ()
    return (*several, *(CLICKS if click_candidates else ()))


def table_columns(names: tuple[str, ...], k: int) -> tuple[str, ...]:
    """Those of `names` that have a column in the printed tables, metrics with a cutoff at `k`."""
    columns = []
    for kind, metric in METRICS.items():
        if metric.shown:
            columns.append(f"{kind}@{k}" if metric.shown == "@k" else kind)
    return tuple(column for column in columns if column in names)


def written_names(kinds: Iterable[str]) -> list[str]:
    """Names as a person writes them: hr@k, mrr@k, mrr, auc, diversity:ATTRIBUTE@k."""
    found = []
    for kind in kinds:
        head = f"{kind}:{ANY}" if ATTRIBUTE in METRICS[kind].needs else kind
        found += [f"{head}@k" if form == "@k" else head for form in METRICS[kind].forms]
    return found
