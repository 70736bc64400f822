"""What is left of items after turns to their users and back, as a table."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from seqrec_cli.reporting.tables import CLOSE, plain_table

LEGEND = (
    "users in their states before they had the item, as they are now, or whom it would be shown; made: the vector made "
    "of the users, and the median rank that it gives the item"
)
NUMBERS = ("back", "cosine", "neighbours", "different", "popularity")


def drift_table(found: Mapping[str, Any]) -> Table:
    """A row a turn (the first two and the last) of all starts, and what the last leaves of the rarest and of the most
    popular quarter."""
    any_two = found["cosine_of_any_two"]
    told = "" if any_two is None else f"; cosine of any two items {any_two:.3f}"
    caption = f"{found['starts']:,} items, states of {found['users']:,} users{told}\n{LEGEND}"
    table = plain_table("item to users to item", caption, padding=CLOSE)
    for column in ("users", "fit", "turns", *NUMBERS):
        table.add_column(column, justify="right" if column in NUMBERS else "left", no_wrap=True)
    for turned in found["ways"]:
        table.add_section()
        rank = f"rank {turned['median_rank_of_made']:,.0f}"
        table.add_row(turned["way"], turned["fit"], "made", "", f"{turned['cosine_of_made']:.3f}", rank)
        rows, last = turned["turns"], len(turned["turns"])
        for turn in sorted({1, 2, last} & set(range(1, last + 1))):
            table.add_row("", "", str(turn), *_cells(rows[turn - 1]))
        for part in (turned["by_popularity"][0], turned["by_popularity"][-1]):
            low, high = part["events"]
            table.add_row("", "", f"{last}, {low:,}-{high:,} events", *_cells(part["turns"][-1]))
    return table


def _cells(row: Mapping[str, float]) -> tuple[str, ...]:
    return (
        f"{row['back']:.1%}",
        f"{row['cosine']:.3f}",
        f"{row['neighbours']:.1%}",
        f"{row['different']:,.0f}",
        f"{row['popularity']:.3f}",
    )
