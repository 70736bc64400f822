"""Who orders staged rows: DuckDB on this machine, or Spark on a cluster. The statements are `definition.py`'s."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from seqrec_cli.data.large.stage_state import StagedFile


class Engine(Protocol):
    """A table of staged rows."""

    columns: list[str]

    def ids(self, column: str) -> pa.Array:
        """The distinct raw ids of a column, sorted; int64 or text."""

    def numbered(self, column: str) -> pa.Array:
        """The distinct values of a column, in the order of their first rows."""

    def code(self, column: str, ids: pa.Array) -> None:
        """Take these ids, in their order, for the codes of a column."""

    def ordered(self, columns: Sequence[str], coded: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows in the log's order, with codes in `coded` columns and others as they are."""

    def described(self, of: str, column: str) -> pa.Table:
        """`code` of an item or user, the first `value` that a row has of it, and whether another `differs`."""

    def first_of(self, column: str, among: pa.Array) -> str:
        """Which of these ids comes first in the log."""

    def never_without_blanks(self, column: str) -> int:
        """How many distinct values of a column had blanks around them in every row."""

    def close(self) -> None:
        """Give back what was taken."""


def open_engine(
    name: str, staged: Path, files: Sequence[StagedFile], *, scratch: Path, memory: int, disk: int
) -> Engine:
    """The engine that `dataset.engine` names; DuckDB for `auto`. `memory` and `disk` in bytes.

    Raises SeqrecError where it is not installed.
    """
    if name == "spark":
        from seqrec_cli.data.large.spark import Spark

        return Spark(staged, files, scratch, memory=memory, disk=disk)
    from seqrec_cli.data.large.duck import Duck

    return Duck(staged, files, scratch, memory=memory, disk=disk)
