"""Metric tables: a model and the baselines, with the protocol the numbers were obtained by."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqrec_cli.metrics.table import CLICK_METRICS, lower_is_better, table_columns
from seqrec_cli.reporting.meaning import of_rows, of_targets

CUTOFF = 10  # the k shown, where it was measured
BASELINES = {  # in this order
    "random": "random",
    "popular": "most popular",
    "markov": "last-item Markov",
    "itemknn": "item-to-item kNN",
    "graph": "transition graph",
    "repeats": "seen before",
    "latest": "latest first",
}
ORACLE = "oracle"
ORACLE_NOTE = "oracle: the generating process's own score; no model can expect more"
INTERVALS_NOTE = "±: half of the 95 % interval, by how much users differ"
NO_VALUE = "-"
CLOSE = (0, 1, 0, 0)  # a table's padding where seven numbers are to fit 80 characters


def plain_table(title: str, caption: str | None = None, *, padding: tuple[int, ...] = (0, 1)) -> Table:
    """A table without a frame, title and caption on the left; both are shown as they are, not read as markup."""
    return Table(
        title=escape(title),
        caption=None if caption is None else escape(caption),
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        caption_style="",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=padding,  # type: ignore[arg-type]
    )


def shown_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """The columns that fit 80 characters: HR and NDCG at 10 (else at the largest k), MRR, corpus AUC, click metrics."""
    have = tuple(names)
    measured = [int(name.partition("@")[2]) for name in have if "@" in name]
    return table_columns(have, CUTOFF if CUTOFF in measured or not measured else max(measured))


def protocol_line(rules: Mapping[str, Any]) -> str:
    """By which protocol (`evaluation.compare.protocol`) a table's numbers were obtained."""
    found = rules.get("meaning", {})
    told = [*of_targets(rules["counts"], found), *of_rows(found)]
    if rules.get("ranked_users", "all") != "all":
        told.append(f"{rules['ranked_users']:,} requests ranked at most")
    counts = f" ({'; '.join(told)})" if told else ""
    candidates = "the whole corpus" if rules["candidates"] == "whole corpus" else f"{rules['candidates']} candidates"
    seen = "kept" if rules["seen_items"].startswith("kept") else "removed"
    return (
        f"{rules['dataset']} {rules['fingerprint'][:12]}; {rules['split']}: {rules['targets']}"
        f"{counts}, ranked among {candidates} ({rules['items']:,} items), seen items {seen}, ties at "
        f"their mean, max_length {rules['max_length']}; {', '.join(CLICK_METRICS)} on the fixed candidates (protocol "
        f"{rules['name']})"
    )


def results_table(
    name: str,
    metrics: Mapping[str, float],
    baselines: Mapping[str, Mapping[str, float]],
    *,
    title: str,
    protocol: str,
    intervals: Mapping[str, Sequence[float]] | None = None,
    validation: Mapping[str, float] | None = None,
) -> Table:
    """One row for the model `name`, with half of each 95 % interval below it; one a baseline, the oracle last;
    validation, if given, apart below.

    The best value of each column, the oracle's and validation's set aside, is bold on a terminal.
    """
    columns = shown_metrics(metrics)
    known = [baseline for baseline in BASELINES if baseline in baselines]
    others = [baseline for baseline in baselines if baseline not in BASELINES and baseline != ORACLE]
    rivals = [
        (name, metrics),
        *((BASELINES.get(baseline, baseline), baselines[baseline]) for baseline in [*known, *others]),
    ]

    notes = [*([INTERVALS_NOTE] if intervals else []), *([ORACLE_NOTE] if ORACLE in baselines else []), protocol]
    table = plain_table(title, "\n".join(notes), padding=CLOSE)
    table.add_column("", overflow="fold")  # the column that gives way on a narrow screen
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)

    best = {column: best_value(column, [row for _, row in rivals]) for column in columns}
    for label, row in rivals:
        cells = [_bold_if(_text(row.get(column)), row.get(column) == best[column]) for column in columns]
        table.add_row(escape(label), *cells)
        if intervals and row is metrics:
            table.add_row("  ±", *(_half(intervals.get(column)) for column in columns), style="dim")
    for label, extra in ((ORACLE, baselines.get(ORACLE)), (f"{name}, val", validation)):
        if extra is not None:
            table.add_section()
            table.add_row(escape(label), *(_text(extra.get(column)) for column in columns))
    return table


def parts_table(parts: Mapping[str, Mapping[str, float]], title: str) -> Table:
    """A row a part of the targets (`evaluation.cold.cold_parts`), with how many they are."""
    columns = [name for name in shown_metrics(next(iter(parts.values()))) if name != "targets"]
    table = plain_table(title)
    for column in ("", "targets", *columns):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for label, row in parts.items():
        table.add_row(escape(label), f"{row['targets']:,}", *(_text(row[column]) for column in columns))
    return table


def seeds_table(
    summary: Mapping[str, Mapping[str, float]],
    seeds: Sequence[int],
    metrics: Sequence[Mapping[str, float]],
    *,
    split: str,
) -> Table:
    """Every metric of the split a row: mean and standard deviation over the seeds, then each seed's own."""
    table = plain_table(f"{split} metrics of {len(seeds)} seeds")
    for column in ("", "mean", "std", *(f"seed {seed}" for seed in seeds)):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for name, both in summary.items():
        values = (both["mean"], both["std"], *(row[name] for row in metrics))
        table.add_row(escape(name), *map(_text, values))
    return table


def recommendations_table(items: Sequence[str | int], titles: Sequence[str] | None, scores: Sequence[float]) -> Table:
    """Recommended items, the best first."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("item", *(() if titles is None else ("title",))):
        table.add_column(name)
    table.add_column("score", justify="right")
    for nth, (item, score) in enumerate(zip(items, scores, strict=True)):
        title = () if titles is None else (escape(titles[nth]),)
        table.add_row(escape(str(item)), *title, f"{score:.4f}")
    return table


def print_table(table: Table, console: Console | None = None) -> None:
    """Coloured on a terminal, plain text elsewhere."""
    console = console or Console(highlight=False)
    console.print()
    console.print(table)


def best_value(column: str, rows: Sequence[Mapping[str, float]]) -> float | None:
    """The best of a column's values; None where there is none."""
    values = [row[column] for row in rows if column in row]
    if not values:
        return None
    return min(values) if lower_is_better(column) else max(values)


def _text(value: float | None) -> str:
    return NO_VALUE if value is None else f"{value:.4f}"


def _half(interval: Sequence[float] | None) -> str:
    return NO_VALUE if interval is None else f"{(interval[1] - interval[0]) / 2:.4f}"


def _bold_if(text: str, yes: bool) -> str:
    return f"[bold]{text}[/bold]" if yes and text != NO_VALUE else text
