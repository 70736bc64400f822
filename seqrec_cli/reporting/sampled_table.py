"""One checkpoint's metrics among the corpus and among sampled items, and what corrections make of the latter."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from seqrec_cli.reporting.tables import plain_table, shown_metrics

NOTE = (
    "Ranks among sampled items flatter a model and may change the order of models; the corrections estimate the whole "
    "corpus' metrics from them (Krichene and Rendle, KDD 2020), for uniform samples alone"
)


def candidates_table(found: Mapping[str, Mapping[str, Any]], title: str) -> Table:
    """A row for each kind of candidates, `metrics` of it, and below it one for each of its estimates, `corrected`."""
    rows = []
    for kind, measured in found.items():
        rows.append((kind, measured["metrics"]))
        rows += [(f"  {label}", values) for label, values in measured["corrected"].items()]
    columns = [name for name in shown_metrics(rows[0][1]) if any(name in values for _, values in rows)]
    table = plain_table(title, NOTE)
    table.add_column("ranked among", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for label, values in rows:
        table.add_row(escape(label), *("" if column not in values else f"{values[column]:.4f}" for column in columns))
    return table
