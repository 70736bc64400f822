"""The table of metrics as a person reads it."""

from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from seqrec_cli.metrics.table import METRICS, written_names

FAMILIES = {  # by file of the room `metrics`
    "ranking": "of ranks",
    "clicks": "of labelled click candidates",
    "popularity": "of the items in the top lists",
    "diversity": "of each top list, by an attribute of its items",
    "owners": "of the users who own the items in the top lists",
}


def better(kind: str) -> str:
    """The direction, in a word."""
    return "higher" if METRICS[kind].higher_is_better else "lower"


def listing_table() -> Table:
    """A row a metric, family by family: its forms, what it says, the better direction, what it needs."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("metric", "what it says", "better", "needs"):
        table.add_column(column, overflow="fold", no_wrap=column == "better")
    family = None
    for kind, metric in METRICS.items():
        if metric.family != family:
            family = metric.family
            table.add_section()
            table.add_row(f"[bold]{family}[/bold]", FAMILIES[family])
        needs = [need for need in metric.needs if need not in FAMILY_NEEDS]
        table.add_row(escape(", ".join(written_names([kind]))), escape(metric.says), better(kind), ", ".join(needs))
    table.caption = CAPTION
    table.caption_justify, table.caption_style = "left", ""
    return table


FAMILY_NEEDS = ("click candidates", "top lists")  # told by the family's line
CAPTION = """\
top lists: measured with evaluation.beyond_accuracy=true (train), beyond_accuracy=true (evaluate)
item attribute: its name stands for ATTRIBUTE, as in diversity:genres@10; without attributes not measured
item owners: dataset.owner_column names the column of their user ids; without owners not measured
one in full: seqrec metrics NAME"""


def metric_in_full(kind: str) -> dict[str, Any]:
    """One metric as plain values."""
    metric = METRICS[kind]
    return {
        "names": written_names([kind]),
        "family": metric.family,
        "says": metric.says,
        "better": better(kind),
        "needs": metric.needed,
        "definition": metric.definition,
    }


def print_metric(kind: str) -> None:
    """One metric with its formula and source."""
    found = metric_in_full(kind)
    print(f"{', '.join(found['names'])}: {found['family']}, {FAMILIES[found['family']]}; {found['better']} is better\n")
    print(found["definition"])
    for need in found["needs"]:
        print(f"\nNeeds: {need}.")


def metrics_page() -> str:
    """All metrics in Markdown, for the documentation."""
    lines, family = [], None
    for kind in METRICS:
        found = metric_in_full(kind)
        if found["family"] != family:
            family = found["family"]
            lines += [f"## {family.capitalize()}: {FAMILIES[family]}", ""]
        names = ", ".join(f"`{name}`" for name in found["names"])
        first, _, rest = found["definition"].partition("\n\n")
        needs = f" Needs {'; '.join(found['needs'])}." if found["needs"] else ""
        said = " ".join([first, f"{found['better'].capitalize()} is better.{needs}"])
        lines += [f"### {kind}", "", f"{names}. {' '.join(said.split())}", "", *_indented(rest), ""]
    return "\n".join(lines)


def _indented(text: str) -> list[str]:
    return ["```text", *text.strip().splitlines(), "```"] if text.strip() else []
