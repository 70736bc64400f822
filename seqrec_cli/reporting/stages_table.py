"""Two stages beside each of them alone."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from seqrec_cli.reporting.tables import plain_table, shown_metrics


def stages_table(stages: Mapping[str, Any], name: str, metrics: Mapping[str, float], *, title: str) -> Table:
    """A row for the system and one for each stage that was measured by itself over the whole corpus."""
    found = f"{stages['recall']:.1%} of the targets are among the {stages['retrieved']:,} best of the retriever"
    table = plain_table(title, f"{found}, the most that the ranker can find there")
    table.add_column("", no_wrap=True)
    columns = shown_metrics(metrics)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    rows = {name: metrics}
    for stage in ("retriever", "ranker"):
        if f"{stage}_metrics" in stages:
            rows[f"{stages[stage]} alone"] = stages[f"{stage}_metrics"]
    for label, values in rows.items():
        table.add_row(escape(label), *(f"{values[column]:.4f}" if column in values else "" for column in columns))
    return table
