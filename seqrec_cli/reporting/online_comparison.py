"""The arms of an online experiment, as tables on a terminal, as CSV and as a page in one file."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from seqrec_cli.reporting.comparison import COLUMNS, STATISTICS, Values, metric_bar, metric_rows
from seqrec_cli.reporting.html_page import heading, html_table, note, page
from seqrec_cli.reporting.svg import forest
from seqrec_cli.reporting.tables import CLOSE, plain_table

Arms = Sequence[Mapping[str, Any]]  # of each arm: name, users, exposures, planned
ARM_COLUMNS = ("arm", "users", "share", "planned", "exposures", "exposures per user")
CAPTION = (
    "differences to {first}; brackets are 95 % intervals over users (delta method); p by Holm for all of the table"
)
FIELDS = ("metric", "arm", "users", "exposures", *STATISTICS)
LEFT_OUT = {  # fields of `LeftOut`, in words
    "torn": "torn lines",
    "foreign": "lines of another form",
    "repeated": "exposures written twice",
    "nobody": "exposures without a user",
    "nobody_feedback": "feedback to exposures without a user",
    "unshown": "feedback without an exposure that showed the item",
    "others": "feedback by another user than its exposure's",
    "duplicates": "feedback told again",
    "crossed": "users seen in two arms",
    "crossed_exposures": "exposures of users seen in two arms",
    "crossed_feedback": "feedback of users seen in two arms",
}


def arms_table(arms: Arms, title: str) -> Table:
    """A row an arm."""
    table = plain_table(title, padding=CLOSE)
    for nth, column in enumerate(ARM_COLUMNS):
        table.add_column(column, justify="right" if nth else "left", overflow="fold")
    for row in _arm_rows(arms):
        table.add_row(escape(row[0]), *row[1:])
    return table


def _arm_rows(arms: Arms) -> list[list[str]]:
    users = sum(arm["users"] for arm in arms)
    return [
        [
            arm["name"],
            f"{arm['users']:,}",
            f"{arm['users'] / users:.4f}",
            f"{arm['planned']:.4f}",
            f"{arm['exposures']:,}",
            f"{arm['exposures'] / arm['users']:.2f}",
        ]
        for arm in arms
    ]


def left_out_lines(left_out: Mapping[str, int]) -> list[str]:
    """What no rate counts, a line each."""
    return [f"left out: {left_out[name]:,} {words}" for name, words in LEFT_OUT.items() if left_out[name]]


def period(began: float, ended: float) -> str:
    """From when to when, in UTC."""
    first, last = (datetime.fromtimestamp(each, UTC).strftime("%Y-%m-%d %H:%M") for each in (began, ended))
    return f"{first} to {last} UTC"


def online_csv(arms: Arms, found: Values) -> str:
    """A row a metric and arm, in full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for metric, of_arms in found.items():
        for arm, values in zip(arms, of_arms, strict=True):
            row = {"metric": metric, "arm": arm["name"], "users": arm["users"], "exposures": arm["exposures"]}
            row |= {"value": values["mean"], "low": values["interval"][0], "high": values["interval"][1]}
            if values["p"] is not None:
                low, high = values["difference_interval"]
                row |= {"difference": values["difference"], "difference_low": low, "difference_high": high}
                row |= {field: values[field] for field in ("error", "p", "p_holm", "detectable")}
            writer.writerow(row)
    return text.getvalue()


def online_page(arms: Arms, found: Values, *, title: str, told: Sequence[str]) -> str:
    """The arms, differences with their intervals, all numbers; `told` are the lines that the terminal has too."""
    names = [arm["name"] for arm in arms]
    sections = [note(line) for line in told]
    sections += [heading("Arms"), html_table(ARM_COLUMNS, _arm_rows(arms), text=1)]
    for metric, of_arms in found.items():
        sections.append(heading(f"{metric}: difference to {names[0]}"))
        bars = [metric_bar(name, values) for name, values in zip(names[1:], of_arms[1:], strict=True)]
        sections.append(forest(bars, zero=True))
    if found:
        columns = ["metric", "arm", *COLUMNS[2:]]
        sections += [heading("All numbers"), html_table(columns, metric_rows(names, found), text=2)]
        sections.append(note("detectable: the smallest difference that such a log shows in 80 of 100 cases, at 5 %"))
    return page(title, sections)
