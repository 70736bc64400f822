"""The leaderboard on a terminal, as Markdown, as CSV and as a page in one file.

A group here is plain: its title and notes, and rows of `run`, `model`, `seed`, `metrics`, `intervals`.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from seqrec_cli.reporting.html_page import heading, html_table, note, page
from seqrec_cli.reporting.svg import Bar, forest
from seqrec_cli.reporting.tables import BASELINES, CLOSE, NO_VALUE, best_value, plain_table

WORDS = ("model", "seed", "run")


class BoardGroup(NamedTuple):
    """Runs of one protocol, best first, and baselines below them."""

    key: str
    title: str
    differs: str
    protocol: Mapping[str, Any]
    runs: Sequence[Mapping[str, Any]]
    baselines: Sequence[Mapping[str, Any]]


def board_table(group: BoardGroup, metrics: Sequence[str]) -> Table:
    """Half of each 95 % interval stands below its number, so that seven metrics fit 80 characters."""
    table = plain_table(group.title, padding=CLOSE)
    table.add_column("model, run", overflow="fold")
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True)
    best = {metric: best_value(metric, [row["metrics"] for row in group.runs]) for metric in metrics}
    for row in group.runs:
        values = [_cell(row, metric, "\n±") for metric in metrics]
        strong = [row["metrics"].get(metric) == best[metric] is not None for metric in metrics]
        cells = [f"[bold]{text}[/bold]" if yes else text for text, yes in zip(values, strong, strict=True)]
        table.add_row(escape(f"{row['model']}\n {row['run']}"), *cells)
    if group.baselines:
        table.add_section()
    for row in group.baselines:
        table.add_row(_name(row), *(_cell(row, metric, "\n±") for metric in metrics))
    return table


def _name(row: Mapping[str, Any]) -> str:
    return str(BASELINES.get(row["model"], row["model"]))


def _cell(row: Mapping[str, Any], metric: str, between: str = " ± ") -> str:
    value, ends = row["metrics"].get(metric), row["intervals"].get(metric)
    if value is None:
        return NO_VALUE
    half = "" if ends is None else f"{between}{(ends[1] - ends[0]) / 2:.4f}"
    return f"{value:.4f}{half}"


def _lines(group: BoardGroup, metrics: Sequence[str]) -> list[list[str]]:
    """Model, seed, run and every metric; baselines at the end."""
    runs = [[row["model"], "" if row["seed"] is None else str(row["seed"]), row["run"]] for row in group.runs]
    below = [[_name(row), "", ""] for row in group.baselines]
    rows = [*group.runs, *group.baselines]
    return [
        [*words, *(_cell(row, metric) for metric in metrics)] for words, row in zip([*runs, *below], rows, strict=True)
    ]


def markdown_row(cells: Sequence[str]) -> str:
    """A row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def board_markdown(groups: Sequence[BoardGroup], metrics: Sequence[str]) -> str:
    """A section and a table a group."""
    found = ["# Leaderboard", "", "± is half of the 95 % interval, users resampled."]
    for group in groups:
        found += ["", f"## {group.title}", ""]
        found += [f"Differs from the first of its dataset: {group.differs}.", ""] if group.differs else []
        found.append(markdown_row([*WORDS, *metrics]))
        found.append("|" + "---|" * len(WORDS) + "---:|" * len(metrics))
        found += [markdown_row(row) for row in _lines(group, metrics)]
    return "\n".join(found) + "\n"


def board_csv(groups: Sequence[BoardGroup], metrics: Sequence[str]) -> str:
    """A row a run or baseline, in full precision, with both ends of each interval."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = [column for metric in metrics for column in (metric, f"{metric} low", f"{metric} high")]
    writer.writerow(["protocol", "dataset", "position", *WORDS, *ends])
    for group in groups:
        for position, row in enumerate([*group.runs, *group.baselines], 1):
            values: list[Any] = []
            for metric in metrics:
                values += [row["metrics"].get(metric), *(row["intervals"].get(metric) or (None, None))]
            number = position if row["run"] else None
            words = [row["model"], row["seed"], row["run"]]
            writer.writerow([group.key, group.protocol.get("dataset"), number, *words, *values])
    return text.getvalue()


def board_page(groups: Sequence[BoardGroup], metrics: Sequence[str], *, sort: str) -> str:
    """Tables, the intervals of the metric that orders them, and each protocol."""
    sections = [note("Runs of one protocol stand together. ± is half of the 95 % interval, users resampled.")]
    for group in groups:
        sections.append(heading(group.title))
        sections += [note(f"Differs from the first of its dataset: {group.differs}")] if group.differs else []
        sections.append(html_table([*WORDS, *metrics], _lines(group, metrics), text=len(WORDS)))
        bars = [
            Bar(f"{row['model']} {row['run']}", row["metrics"][sort], *row["intervals"][sort])
            for row in group.runs
            if sort in row["intervals"]
        ]
        sections += [note(f"{sort}, 95 %"), forest(bars, zero=False)] if bars else []
        rules = [[name, str(value)] for name, value in group.protocol.items()]
        sections.append(
            f"<details><summary>protocol {group.key}</summary>{html_table(['', ''], rules, text=2)}</details>"
        )
    return page("Leaderboard", sections)
