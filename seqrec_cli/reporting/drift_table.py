"""What is left of items after turns to their users and back, as a table."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from seqrec_cli.reporting.tables import plain_table

WAYS = {"own": "its users in the log", "shown": "whom it is shown to"}
COLUMNS = ("items", "turn", "back", "cosine", "neighbours kept", "different", "popularity")


def drift_table(found: Mapping[str, Any]) -> Table:
    """A row a turn, of all starts, and of the rarest and the most popular quarter the last turn."""
    any_two = found["cosine_of_any_two"]
    told = "" if any_two is None else f"; cosine of any two items {any_two:.3f}"
    table = plain_table("item to users to item", f"{found['starts']:,} items, states of {found['users']:,} users{told}")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "items" else "right")
    for way, words in WAYS.items():
        turned = found[way]
        table.add_section()
        rank = f"median rank {turned['median_rank_of_made']:,.0f}"
        table.add_row(words, "made of users", "", f"{turned['cosine_of_made']:.3f}", rank, "", "")
        for turn, row in enumerate(turned["turns"], 1):
            table.add_row("", str(turn), *_cells(row))
        for part in (turned["by_popularity"][0], turned["by_popularity"][-1]):
            low, high = part["events"]
            table.add_row(f"of {low:,} to {high:,} events", str(len(part["turns"])), *_cells(part["turns"][-1]))
    return table


def _cells(row: Mapping[str, float]) -> tuple[str, ...]:
    return (
        f"{row['back']:.1%}",
        f"{row['cosine']:.3f}",
        f"{row['neighbours']:.1%}",
        f"{row['different']:,.0f}",
        f"{row['popularity']:.3f}",
    )
