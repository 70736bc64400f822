"""What `compare` found, as a table on a terminal, as CSV and as a page in one file."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from seqrec_cli.metrics.table import METRICS
from seqrec_cli.reporting.html_page import heading, html_table, note, page
from seqrec_cli.reporting.svg import Bar, forest, rising
from seqrec_cli.reporting.tables import CLOSE, plain_table

Values = Mapping[str, Sequence[Mapping[str, Any]]]  # by metric, of every run: what `paired.Compared` holds
DIFFERENCES = "differences to {first}; brackets are 95 % intervals, users resampled; p by Holm for all of a table"
STATISTICS = (  # of one run or arm beside the first
    "value",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
    "error",
    "p",
    "p_holm",
    "detectable",
)
FIELDS = (
    "segments",
    "segment",
    "users",
    "metric",
    "run",
    *STATISTICS,
)
COLUMNS = ("metric", "run", "value", "difference", "95 % interval", "p", "p (Holm)", "detectable")


class Part(NamedTuple):
    """All users, or one segment of them."""

    kind: str  # as it was asked for; empty for all
    label: str
    users: int
    found: Values

    @property
    def title(self) -> str:
        return f"{self.label}: {self.users:,} users"


def comparison_table(names: Sequence[str], found: Values, title: str) -> Table:
    """A row a metric and run: its value and, but for the first run, the difference to that and what is to be thought
    of it."""
    table = plain_table(title, padding=CLOSE)
    table.add_column("", overflow="fold")  # the column that gives way on a narrow screen
    for column in ("value", "difference [95 %]", "p Holm", "detectable"):
        table.add_column(column, justify="right", no_wrap=True)
    for metric, runs in found.items():
        table.add_row(f"[bold]{escape(metric)}[/bold]")
        for name, run in zip(names, runs, strict=True):
            _, _, value, difference, interval, _, p_holm, least = _cells(metric, name, run)
            table.add_row(f" {escape(name)}", value, escape(f"{difference} {interval}"), p_holm, least)
    return table


def _cells(metric: str, name: str, run: Mapping[str, Any]) -> list[str]:
    low, high = run["interval"]
    cells = [metric, name, f"{run['mean']:.4f} ± {(high - low) / 2:.4f}"]
    if run["p"] is None:
        return [*cells, *[""] * (len(COLUMNS) - len(cells))]
    low, high = run["difference_interval"]
    return [
        *cells,
        f"{run['difference']:+.4f}",
        f"[{low:+.4f}, {high:+.4f}]",
        _p(run["p"]),
        "" if run["p_holm"] is None else _p(run["p_holm"]),
        f"{run['detectable']:.4f}",
    ]


def _p(value: float) -> str:
    return "<.0001" if value < 1e-4 else f"{value:.4f}"


def _rows(names: Sequence[str], parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    for part in parts:
        for metric, runs in part.found.items():
            for name, run in zip(names, runs, strict=True):
                row = {"segments": part.kind, "segment": part.label, "users": part.users, "metric": metric, "run": name}
                row |= {"value": run["mean"], "low": run["interval"][0], "high": run["interval"][1]}
                if run["p"] is not None:
                    low, high = run["difference_interval"]
                    row |= {"difference": run["difference"], "difference_low": low, "difference_high": high}
                    row |= {field: run[field] for field in ("error", "p", "p_holm", "detectable")}
                yield row


def comparison_csv(names: Sequence[str], parts: Sequence[Part]) -> str:
    """A row a part, metric and run, in full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(names, parts))
    return text.getvalue()


def comparison_page(
    names: Sequence[str],
    parts: Sequence[Part],
    *,
    title: str,
    protocol: Mapping[str, Any],
    cutoffs: Sequence[int],
    shares: Sequence[Sequence[float]],
) -> str:
    """Differences with their intervals, all numbers as tables, the share found at each cutoff, and the protocol."""
    whole, segments = parts[0], parts[1:]
    first = names[0]
    sections = [note(f"{whole.title}; {DIFFERENCES.format(first=first)}")]
    for metric, runs in whole.found.items():
        lower = _lower_is_better(metric)
        better = "; lower is better" if lower else ""
        sections.append(heading(f"{metric}: difference to {first}{better}"))
        sections.append(
            forest([metric_bar(name, run) for name, run in zip(names[1:], runs[1:], strict=True)], zero=True)
        )
    sections.append(heading("All numbers"))
    sections.append(_html(names, whole.found))
    sections.append(note("detectable: the smallest difference that such a log shows in 80 of 100 cases, at 5 %"))
    sections += [heading("Share of targets among the first k"), rising(names, cutoffs, shares)]
    for kind in dict.fromkeys(part.kind for part in segments):
        of_kind = [part for part in segments if part.kind == kind]
        sections.append(heading(f"By {kind}"))
        for metric in whole.found:
            bars = [
                metric_bar(f"{part.label}: {name}" if len(names) > 2 else part.label, run)
                for part in of_kind
                for name, run in list(zip(names, part.found.get(metric, ()), strict=False))[1:]
            ]
            if bars:
                sections += [note(metric), forest(bars, zero=True)]
        sections += [text for part in of_kind for text in (note(part.title), _html(names, part.found))]
    rules = [[field, str(value)] for field, value in protocol.items()]
    sections += [heading("Protocol"), html_table(["field", "value"], rules, text=2)]
    return page(title, sections)


def metric_bar(label: str, run: Mapping[str, Any]) -> Bar:
    """A difference with its interval."""
    return Bar(label, run["difference"], *run["difference_interval"])


def metric_rows(names: Sequence[str], found: Values) -> list[list[str]]:
    """Texts of the columns `COLUMNS`, a row a metric and run."""
    return [
        _cells("" if number else metric, name, run)
        for metric, runs in found.items()
        for number, (name, run) in enumerate(zip(names, runs, strict=True))
    ]


def _html(names: Sequence[str], found: Values) -> str:
    return html_table(COLUMNS, metric_rows(names, found), text=2)


def _lower_is_better(metric: str) -> bool:
    known = METRICS.get(metric.partition("@")[0])
    return known is not None and not known.higher_is_better
