"""What decides a number's meaning, in a few words: only what is not as one would expect."""

from collections.abc import Mapping
from typing import Any


def of_targets(counts: Mapping[str, int], found: Mapping[str, Any]) -> list[str]:
    """What is not one familiar target of each user: several, repeated, cold or tied ones, users without any.

    `counts` are those of a view's split, `found` is its `meaning` (empty for runs that were measured before it was
    kept).
    """
    said = []
    if counts["targets"] > counts["users"]:
        said.append(f"{counts['targets']:,} targets in {counts['requests']:,} requests of {counts['users']:,} users")
    if counts["repeated_targets"]:
        share = counts["repeated_targets"] / counts["held_out_targets"]
        left_out = ", left out" if counts["left_out_repeats"] else ""
        said.append(f"{share:.1%} of targets repeat an item of their history{left_out}")
    if counts["requests_of_cold_users"]:
        said.append(f"{counts['requests_of_cold_users']:,} requests of users who did not train")
    if counts["cold_targets"]:
        share = counts["cold_targets"] / counts["targets"]
        said.append(f"{counts['cold_targets']:,} targets that never trained ({share:.1%})")
    if found and found["targets_in_ties"]:
        said.append(f"{found['targets_in_ties']:,} targets that another order of equal times could change")
    if found and found["users_without_target"]:
        said.append(f"{found['users_without_target']:,} of {found['users']:,} users without a target")
    return said


def of_rows(found: Mapping[str, Any]) -> list[str]:
    """Rows that filters left out, and neighbours whose order the times do not say."""
    said = []
    if found and found["rows_left_out"]:
        removed = found["rows_left_out"]
        each = ", ".join(f"{name}: {count:,}" for name, count in removed.items())
        said.append(f"{sum(removed.values()):,} of {found['rows']:,} rows left out ({each})")
    if found and found["ordered_ties"]:
        said.append(f"{found['ordered_ties']:,} pairs of equal time ordered by dataset.order_columns")
    if found and found["equal_times"]:
        said.append(f"{found['equal_times']:,} pairs of equal time in the file's order")
    return said


def split_line(split: str, counts: Mapping[str, int], found: Mapping[str, Any]) -> str:
    """A split's targets, for `preprocess`."""
    return "; ".join(
        [f"{split}: {counts['targets']:,} targets of {counts['users']:,} users", *of_targets(counts, found)]
    )
