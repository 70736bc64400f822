"""What an engine has to do for a large log: what needs all of its staged rows at once (`definition.py`)."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa


class Engine(Protocol):
    """A table of staged rows. Columns are called as in `definition.py`."""

    columns: list[str]

    def ids(self, column: str) -> pa.Array:
        """The distinct raw ids of a column, sorted; int64 or text."""

    def numbered(self, column: str) -> pa.Array:
        """The distinct values of a column, in the order of their first rows."""

    def code(self, column: str, ids: pa.Array) -> None:
        """Take these ids, in their order, for the codes of a column."""

    def ordered(self, columns: Sequence[str], coded: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows in the log's order, with int32 codes in `coded` columns and others as they are."""

    def described(self, of: str, column: str) -> pa.Table:
        """`code` of an item or user, the first `value` that a row has of it, and whether another `differs`."""

    def first_of(self, column: str, among: pa.Array) -> str:
        """Which of these ids comes first in the log."""

    def never_without_blanks(self, column: str) -> int:
        """How many distinct values of a column had blanks around them in every row."""

    def close(self) -> None:
        """Give memory and scratch files back."""
