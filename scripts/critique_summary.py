"""The table of docs/critique.md: what an arm changes, on every log where it was tried, from the same kept results.

docs/critique/summary.yaml names the rows: what is changed, and for each log its table and arm. A cell is that arm's
difference to its table's first one, as that table has it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from scripts.critique_arms import Tables
from scripts.critique_tables import Kept, comparisons, difference_cells, has_changed
from seqrec_cli.config.errors import SeqrecError

NAMES = "summary.yaml"
PAGE = Path("..") / "critique.md"
MARKED = re.compile(r"(<!-- summary -->\n).*?(\n<!-- end of summary -->)", re.DOTALL)


def read_summary(folder: Path) -> dict[str, Any]:
    """`logs`: their titles by name; `rows`: by what is changed, [table, arm] by log. Nothing where there is no file."""
    path = folder / NAMES
    if not path.is_file():
        return {}
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def summarised(text: str, summary: Mapping[str, Any], tables: Tables, kept: Kept) -> str:
    """The page with its table. Raises SeqrecError for a table, a log or an arm that arms.yaml lacks."""
    lines = summary_lines(summary, tables, kept)
    return MARKED.sub(lambda found: "\n".join([found[1], *lines, found[2]]), text)


def summary_lines(summary: Mapping[str, Any], tables: Tables, kept: Kept) -> list[str]:
    """A line a row, a column a log; a cell without a comparison is empty."""
    logs = summary["logs"]
    lines = [f"| what is changed | {' | '.join(logs.values())} |", f"|---|{'--:|' * len(logs)}"]
    for changed, cells in summary["rows"].items():
        if unknown := cells.keys() - logs.keys():
            raise SeqrecError(f"{NAMES}: '{changed}': no log '{unknown.pop()}' among logs")
        told = [cell(*cells[log], log=log, tables=tables, kept=kept) if log in cells else "" for log in logs]
        lines.append(f"| {changed} | {' | '.join(told)} |")
    return lines


def cell(table: str, arm: str, *, log: str, tables: Tables, kept: Kept) -> str:
    """The difference of test NDCG@10 and in how many seeds it is positive."""
    if table not in tables or log not in tables[table]["logs"] or arm not in tables[table]["arms"]:
        raise SeqrecError(f"{NAMES}: arms.yaml has no arm '{arm}' of table '{table}' on log '{log}'")
    beside, clear = comparisons(tables, table, log=log, kept=kept)
    row = beside[arm]
    return "" if row is None else "{} ({})".format(*difference_cells(row, clear=arm in clear))


def write_summary(folder: Path, tables: Tables, kept: Kept) -> list[Path]:
    """Rewrite the page where its table has changed; which it is. Raises SeqrecError where it is missing."""
    page, summary = (folder / PAGE).resolve(), read_summary(folder)
    changed = bool(summary) and has_changed(page, lambda text: summarised(text, summary, tables, kept))
    return [page] if changed else []
