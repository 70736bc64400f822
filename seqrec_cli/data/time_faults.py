"""Columns of times that are refused for what they look like: mixed units or zones, a spreadsheet's days, years.

Legend: N rows.
"""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqrec_cli.data.arrow import mask_of
from seqrec_cli.data.time_column import ORDER, TICKS, WORDS, TimeColumn, ranges

SHEETS_BEGIN = datetime(1899, 12, 30, tzinfo=UTC)  # day 0 of spreadsheets
DAY = 86_400


def refuse_days_or_years(column: TimeColumn, numbers_N: np.ndarray, found: str) -> None:
    """Raises SeqrecError for what spreadsheets and tables of books have as times."""
    low, high = int(numbers_N.min()), int(numbers_N.max())
    first, last = ((bound - SHEETS_BEGIN.timestamp()) // DAY for bound in ranges()["s"])
    if first <= low and high <= last:
        column.refuse(
            f"holds {found}, a spreadsheet's count of days; give the column a date's format there (yyyy-mm-dd) and "
            f"save it again, or set {ORDER} if their order is enough"
        )
    if low > 1700 and high <= datetime.now(UTC).year + 1 and (numbers_N % 1 == 0).all():
        column.refuse(f"holds {found}, which look like years; set dataset.time_unit=%Y if they are, {ORDER} if not")


def refuse_mixed(column: TimeColumn, inside: dict[str, np.ndarray], most: str) -> None:
    """Raises SeqrecError where all numbers that are not in the unit of most are times in other units."""
    others = {unit: inside_N & ~inside[most] for unit, inside_N in inside.items() if unit != most}
    others = {unit: other_N for unit, other_N in others.items() if other_N.any()}
    if not others or not np.any([inside[most], *others.values()], axis=0).all():
        return
    said = [f"{WORDS[most]} in {int(inside[most].sum()):,} rows"]
    for unit, other_N in others.items():
        nth = int(np.argmax(other_N))
        first = f"{column.place(nth)}, {column.values[nth].as_py()}"
        said.append(f"{WORDS[unit]} in {int(other_N.sum()):,} (the first in {first})")
    remedy = "bring all to one unit in the file"
    if len(others) == 1 and {most, *others} <= set(TICKS):
        small, large = sorted((most, *others), key=lambda unit: TICKS[unit])
        remedy += (
            f"; in pandas: log.loc[log[{str(column.name)!r}] > {1e8 * TICKS[large]:.0e}, {str(column.name)!r}] "
            f"//= {TICKS[large] // TICKS[small]}"
        )
    column.refuse(f"holds {' and '.join(said)}; {remedy}")


def refuse_some_zones(column: TimeColumn) -> None:
    """Raises SeqrecError where some times name a zone and others none."""
    if not pa.types.is_string(column.values.type):
        return
    clock = mask_of(pc.match_substring_regex(column.values, r"\d[T ]\d\d:\d\d"))
    zone = mask_of(pc.match_substring_regex(column.values, r":\d\d(\.\d+)? ?(Z|[+-]\d\d:?\d\d)$"))
    if clock.all() and zone.any() and not zone.all():
        rows = [int(np.argmax(of)) for of in (zone, ~zone)]
        shown = [f"{column.values[row].as_py()!r} in {column.place(row)}" for row in rows]
        column.refuse(f"has a zone in some rows ({shown[0]}) and none in others ({shown[1]}); write it in all, or none")
