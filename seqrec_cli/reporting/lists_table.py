"""What the top lists are like, beside the baselines' lists."""

from collections.abc import Mapping

from rich.markup import escape

from seqrec_cli.metrics.table import is_list_metric
from seqrec_cli.reporting.tables import BASELINES, CLOSE, CUTOFF, NO_VALUE, plain_table, print_table


def print_lists(
    name: str, metrics: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]], *, absent: list[str]
) -> None:
    """A table of the metrics of lists, where any were measured, and why others were not."""
    names = [metric for metric in metrics if is_list_metric(metric)]
    if not names:
        return
    cutoffs = {int(metric.rpartition("@")[2]) for metric in names}
    k = CUTOFF if CUTOFF in cutoffs else max(cutoffs)
    table = plain_table(f"top {k} lists", "\n".join(absent), padding=CLOSE)
    columns = {name: metrics} | {BASELINES.get(key, key): values for key, values in baselines.items()}
    table.add_column("", overflow="fold")
    for column in columns:
        table.add_column(escape(column), justify="right", overflow="fold")
    for metric in names:
        if metric.endswith(f"@{k}"):
            values = (of.get(metric) for of in columns.values())
            table.add_row(escape(metric), *(NO_VALUE if value is None else f"{value:.4f}" for value in values))
    print_table(table)
