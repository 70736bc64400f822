"""What is computed of a log larger than memory, said once for every engine that may compute it.

Three parts. Rows are **staged** in batches, read and checked as a small log is (`staging.py`). An engine **orders**
them: it finds the distinct ids, codes them, and sorts, by the statements below. What is left is done in passes over the
ordered rows, a block of whole users at a time, in memory that does not grow with the log (`passes.py`, `finish.py`):
repeats, the filters, the arrays. An engine is thus needed for what needs all rows at once, and only for that, and
whichever it is, the bytes are those of the path in memory.

A staged row has the columns

    place      BIGINT: where it was read, `part << 40 | row`; both count from 0, parts in the order of `parts.find`,
               rows as they stand in the part (also those that were left out). No engine has to keep an order of rows,
               because the place says it.
    user, item BIGINT where every id of the log is written as a whole number, else VARCHAR
    time       BIGINT, ticks (in a log with times)
    split      TINYINT, 0 trains, 1 validates, 2 tests (where the files say so)
    key0, ...  BIGINT or DOUBLE: `dataset.order_columns`
    rating, weight FLOAT
    session    VARCHAR
    context0, ... INTEGER, codes from 0 (-1: none), in the order of their first rows
    about0, ... VARCHAR or NULL: attributes of the row's item or user, its title, its owner

The statements are SQL that DuckDB and Spark both take (Spark has other quotes around names). Texts are compared by the
bytes of UTF-8, which is Python's order.
"""

from collections.abc import Sequence

PART_BITS = 40  # of a place are its row's; parts have the others
KEYS = ("split", "time")  # sort a user's rows before `key0`, ...


def place_of(part: int, row: int) -> int:
    """The place of a row."""
    return part << PART_BITS | row


def part_and_row(place: int) -> tuple[int, int]:
    """The way back."""
    return place >> PART_BITS, place & ((1 << PART_BITS) - 1)


def sort_keys(columns: Sequence[str]) -> list[str]:
    """Which of a staged table's columns sort the rows of a user, the first key first. Rows that no key tells apart stay
    in the order they were read in."""
    found = [name for name in KEYS if name in columns]
    nth = [name for name in columns if name.startswith("key")]
    return [*found, *sorted(nth, key=lambda name: int(name.removeprefix("key"))), "place"]


def ids(column: str, staged: str) -> str:
    """The distinct raw ids of `user` or `item`, sorted; their codes are 0, 1, ... in this order."""
    return f'SELECT "{column}" AS id FROM {staged} GROUP BY "{column}" ORDER BY id'


def numbered(column: str, staged: str) -> str:
    """The distinct values in the order of their first rows; their codes are 0, 1, ... in this order."""
    return f'SELECT "{column}" AS id FROM {staged} WHERE "{column}" IS NOT NULL GROUP BY "{column}" ORDER BY min(place)'


def coded(columns: Sequence[str], staged: str, vocabularies: dict[str, str]) -> str:
    """The rows with codes for ids. `vocabularies` are tables (id, code) by the column that they code; `columns` are
    those that go along as they are."""
    chosen = [f'{table}.code AS "{column}"' for column, table in vocabularies.items()]
    chosen += [f'{staged}."{column}"' for column in columns]
    joins = [f'JOIN {table} ON {staged}."{column}" = {table}.id' for column, table in vocabularies.items()]
    return " ".join(["SELECT", ", ".join(chosen), "FROM", staged, *joins])


def ordered(columns: Sequence[str], rows: str) -> str:
    """All rows, by user and then by their keys. `columns` are those of the rows."""
    by = ", ".join(["user", *sort_keys(columns)])
    return f"SELECT * FROM {rows} ORDER BY {by}"


def described(of: str, column: str, staged: str) -> str:
    """What the first row with a value says of each item or user, and whether a later one says another thing."""
    return (
        f'SELECT "{of}" AS id, min_by("{column}", place) AS value, min("{column}") <> max("{column}") AS differs '
        f'FROM {staged} WHERE "{column}" IS NOT NULL GROUP BY "{of}"'
    )
