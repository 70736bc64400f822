"""Which job of a sweep is the best, what varies between its jobs, and the command that repeats one."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from seqrec_cli.reporting.sweep_folder import NOT_A_JOBS_OWN, Row


def monitors_of(rows: Sequence[Row]) -> list[str]:
    """The metrics that the jobs were chosen by: one, unless the sweep varies it."""
    return list(dict.fromkeys(row["monitor"] for row in rows if row["monitor"]))


def scored(row: Row) -> bool:
    """Whether a job ended well and with a number."""
    return row["val"] is not None and not math.isnan(row["val"]) and not row["error"]


def ranked(rows: Sequence[Row], monitors: Sequence[str]) -> list[Row]:
    """The best first, by validation; jobs without a number behind, by their own number."""
    from seqrec_cli.metrics.table import lower_is_better  # numpy: `cli` imports this file before every verb

    sign = 1 if len(monitors) == 1 and lower_is_better(monitors[0]) else -1
    alike = len(monitors) == 1
    return sorted(
        rows, key=lambda row: (not scored(row), sign * row["val"] if alike and scored(row) else 0, row["job"])
    )


def best_of(rows: Sequence[Row], monitors: Sequence[str]) -> Row | None:
    """The best job by validation; None where none has a number, or they were chosen by several metrics."""
    if len(monitors) != 1:
        return None
    return next((row for row in ranked(rows, monitors) if scored(row)), None)


def settings_of(row: Row) -> dict[str, str]:
    """What a job was told on the command line, by key, as it was written."""
    return dict(text.lstrip("+").split("=", 1) for text in row["overrides"] if "=" in text)


def varying(rows: Sequence[Row]) -> list[str]:
    """The keys whose values differ between the jobs; not where they lie or run."""
    said = [settings_of(row) for row in rows]
    keys = dict.fromkeys(key for each in said for key in each if not f"{key}=".startswith(NOT_A_JOBS_OWN))
    return [key for key in keys if len({each.get(key) for each in said}) > 1]


def repeat_command(verb: str, row: Row) -> str:
    """The command that runs a job by itself, to be pasted into a shell; its folder is a new one."""
    told = [text for text in row["overrides"] if not text.lstrip("+").startswith("run_dir=")]
    return " ".join(["seqrec", verb, *map(shlex.quote, told)])


def short(row: Row, keys: Sequence[str]) -> str:
    """What varies, in a few words: `lr=1e-3 heads=2`."""
    said = settings_of(row)
    shown = [(key.rpartition(".")[2], said[key]) for key in keys if key in said]
    return " ".join(f"{key}={Path(value).name if '/' in value else value}" for key, value in shown)
