"""Orders staged rows by DuckDB, in memory that is limited, the rest on disk."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from seqrec_cli.config.errors import first_line
from seqrec_cli.data.large import definition
from seqrec_cli.data.large.room import ShortageError
from seqrec_cli.data.large.stage_state import StagedFile
from seqrec_cli.data.large.staged_table import data_columns, union
from seqrec_cli.machine import GIB, cores

MISSING = (
    "dataset.engine=duckdb needs DuckDB, which is not installed; pip install 'seqrec[large]', or dataset.engine=memory"
)
LIBRARY = GIB  # of the memory, for Arrow, NumPy and what DuckDB does not count
LEAST = 128 << 20  # with which DuckDB can begin at all
BATCH = 1 << 19  # ordered rows that are handed on at once


class Duck:
    """A table of staged rows, and the statements of `definition.py` over it."""

    def __init__(self, staged: Path, files: Sequence[StagedFile], scratch: Path, *, memory: int, disk: int) -> None:
        try:
            import duckdb
        except ImportError:
            raise ShortageError(MISSING) from None
        self._errors, self._memory, self._scratch = duckdb.Error, memory, scratch
        self._db = duckdb.connect(":memory:")
        limit = max(memory - LIBRARY, memory * 3 // 5, LEAST)
        with self._in_words():
            for setting, value in {
                "memory_limit": f"{limit // 1024}KiB",
                "temp_directory": str(scratch),
                "max_temp_directory_size": f"{max(disk, 1 << 20) // 1024}KiB",
                "threads": cores(),
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
                "enable_progress_bar": False,
            }.items():
                self._db.execute(f"SET {setting} = ?", [value])
            self.columns = data_columns(files)
            self._db.execute(f"CREATE VIEW staged AS {union(staged, files, _scan)}")

    def ids(self, column: str) -> pa.Array:
        """The distinct raw ids of a column, sorted; int64 or text."""
        return self._one(definition.ids(column, "staged"))

    def numbered(self, column: str) -> pa.Array:
        """The distinct values of a column, in the order of their first rows."""
        return self._one(definition.numbered(column, "staged"))

    def code(self, column: str, ids: pa.Array) -> None:
        """Take these ids, in their order, for the codes of a column."""
        table = pa.table({"id": ids, "code": np.arange(len(ids), dtype=np.int32)})
        with self._in_words():
            self._db.register("given", table)
            self._db.execute(f"CREATE OR REPLACE TABLE {column}_ids AS SELECT id, code FROM given")
            self._db.unregister("given")

    def ordered(self, columns: Sequence[str], coded: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows in the log's order, with codes in `coded` columns and others as they are."""
        rows = definition.coded(columns, "staged", {column: f"{column}_ids" for column in coded})
        statement = definition.ordered([*coded, *columns], f"({rows})")
        with self._in_words():
            yield from self._db.sql(statement).to_arrow_reader(BATCH)

    def described(self, of: str, column: str) -> pa.Table:
        """`code` of an item or user, the first `value` that a row has of it, and whether another `differs`."""
        with self._in_words():
            found = definition.described(of, column, "staged")
            statement = f"SELECT code, value, differs FROM ({found}) JOIN {of}_ids USING (id) ORDER BY code"
            return self._db.sql(statement).to_arrow_table()

    def first_of(self, column: str, among: pa.Array) -> str:
        """Which of these ids comes first in the log."""
        with self._in_words():
            self._db.register("given", pa.table({"id": among}))
            statement = f'SELECT "{column}" FROM staged SEMI JOIN given ON id = "{column}" ORDER BY place LIMIT 1'
            found = self._db.sql(statement).fetchall()[0][0]
            self._db.unregister("given")
        return str(found)

    def never_without_blanks(self, column: str) -> int:
        """How many distinct values of a column had blanks around them in every row."""
        statement = f'SELECT count(*) FROM (SELECT 1 FROM staged GROUP BY "{column}" HAVING bool_and("{column}_blank"))'
        with self._in_words():
            return int(self._db.sql(statement).fetchall()[0][0])

    def _one(self, statement: str) -> pa.Array:
        with self._in_words():
            column = self._db.sql(statement).to_arrow_table().column(0)
        kind = pa.int64() if pa.types.is_integer(column.type) else pa.string()
        return pa.concat_arrays([chunk.cast(kind) for chunk in column.chunks] or [pa.array([], kind)])

    def close(self) -> None:
        """Give memory and scratch files back."""
        self._db.close()

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            said = first_line(error)
            if "temp_directory" in str(error) or "temporary" in said or "No space left" in said:
                raise ShortageError(
                    f"no disk is left for sorting in {self._scratch}: {said}; free some, or set data_dir"
                ) from None
            if type(error).__name__ == "OutOfMemoryException":
                raise ShortageError(
                    f"dataset.memory={self._memory / GIB:.2f}GiB is too little for this log: {said}; set a larger one"
                ) from None
            raise ShortageError(f"DuckDB: {said}") from None


def _scan(paths: Sequence[Path]) -> str:
    named = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{named}])"
