"""The jobs of a sweep as a table on a terminal, as CSV and as Markdown."""

import csv
import io
from collections.abc import Sequence

from seqrec_cli.files import write_atomically
from seqrec_cli.reporting.board import markdown_row
from seqrec_cli.reporting.sweep_folder import Row, SweepFolder
from seqrec_cli.reporting.sweep_rank import monitors_of, ranked, settings_of, varying

SPLITS = ("val", "test")
TEST_SET = "data, protocol"  # the column of their fingerprint, where jobs have several
DIGITS = 8


def print_jobs(rows: Sequence[Row], monitors: Sequence[str], winners: Sequence[Row]) -> None:
    """A row a job: what varies, and its validation metrics; test metrics only where every job was to read them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    keys, shown, several = varying(rows), _shown(rows, monitors), _several_test_sets(rows)
    table = Table()
    for key in ("job", *keys, *([TEST_SET] if several else [])):
        table.add_column(Text(key, overflow="fold"), overflow="fold")
    for title in _titles(monitors, shown):
        table.add_column(Text(title), justify="right")
    failed = any(row["error"] for row in rows)
    if failed:
        table.add_column("state")
    for row in rows:
        cells = [str(row["job"]), *(settings_of(row).get(key, "") for key in keys)]
        cells += [_test_set(row)] if several else []
        cells += [*_numbers(row, monitors, shown), *([state_of(row)] if failed else [])]
        table.add_row(*map(Text, cells), style="bold" if row in winners else None)
    Console().print(table)
    for row in rows:  # again: a job's own words may be on another machine
        if state_of(row) not in ("done", "interrupted"):
            print(f"job {row['job']}: {row['error']}")


def state_of(row: Row) -> str:
    """How a job ended, in a word."""
    if row["state"] is not None:
        return str(row["state"])
    return "done" if row["error"] is None else "refused"  # of an older folder


def _several_test_sets(rows: Sequence[Row]) -> bool:
    return len({row["fingerprint"] for row in rows if row["fingerprint"]}) > 1


def _test_set(row: Row) -> str:
    return (row["fingerprint"] or "")[:DIGITS]


def _shown(rows: Sequence[Row], monitors: Sequence[str]) -> list[tuple[str, str]]:
    """Splits and metrics that have a column, beside the monitored ones."""
    measured = {(split, name): None for row in rows for split in SPLITS for name in row["metrics"].get(split, {})}
    return sorted(
        (pair for pair in measured if not (pair[0] == "val" and pair[1] in monitors)),
        key=lambda pair: SPLITS.index(pair[0]),
    )


def _titles(monitors: Sequence[str], shown: Sequence[tuple[str, str]]) -> list[str]:
    return [*(f"val {monitor}" for monitor in monitors), *(f"{split} {name}" for split, name in shown)]


def _numbers(row: Row, monitors: Sequence[str], shown: Sequence[tuple[str, str]]) -> list[str]:
    cells = [_cell(row, "val", monitor) if row["monitor"] == monitor else "" for monitor in monitors]
    return cells + [_cell(row, split, name) for split, name in shown]


def _cell(row: Row, split: str, name: str) -> str:
    monitored = split == "val" and name == row["monitor"]
    value = row["val"] if monitored else row["metrics"].get(split, {}).get(name)
    spread = row["spread"].get(split, {}).get(name)
    return number(value) if spread is None else f"{number(value)} ± {spread:.4f}"


def number(value: float | None) -> str:
    """A metric, or nothing."""
    return "" if value is None else f"{value:.4f}"


def board_rows(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the leaderboard, the best first."""
    monitors, keys = monitors_of(rows), varying(rows)
    shown, several = _shown(rows, monitors), _several_test_sets(rows)
    columns = ["rank", "job", *keys, *([TEST_SET] if several else []), *_titles(monitors, shown), "state", "seconds"]
    found = []
    for nth, row in enumerate(ranked(rows, monitors), 1):
        alone = len(monitors) == 1 and not several and not row["error"]
        cells = [str(nth) if alone else "", str(row["job"]), *(settings_of(row).get(key, "") for key in keys)]
        cells += [_test_set(row)] if several else []
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
        found.append([*cells, *_numbers(row, monitors, shown), state_of(row), seconds])
    return columns, found


def write_boards(folder: SweepFolder, rows: Sequence[Row], winners: Sequence[Row]) -> None:
    """`leaderboard.csv`, with folders and reasons, and `leaderboard.md`."""
    columns, cells = board_rows(rows)
    by_job: dict[str, Row] = {str(row["job"]): row for row in rows}
    ends = [[by_job[line[1]]["run_dir"] or "", by_job[line[1]]["error"] or ""] for line in cells]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, "run_dir", "error"])
    writer.writerows([*line, *end] for line, end in zip(cells, ends, strict=True))
    write_atomically(folder.board_csv, text.getvalue())
    best = {str(row["job"]) for row in winners}
    marked = [[f"**{cell}**" if line[1] in best and cell else cell for cell in line] for line in cells]
    lines = [markdown_row(columns), markdown_row(["---"] * len(columns)), *map(markdown_row, marked)]
    write_atomically(folder.board_md, "\n".join([*lines, *_reasons(rows)]) + "\n")


def _reasons(rows: Sequence[Row]) -> list[str]:
    failed = [row for row in rows if row["error"]]
    return ["", *(f"- job {row['job']} {state_of(row)}: {row['error']}" for row in failed)] if failed else []
