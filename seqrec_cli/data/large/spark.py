"""Orders staged rows by Apache Spark: on a cluster, or by all cores of this machine.

The session is the one that `spark-submit` or the environment configures. What Spark hands back it writes as Parquet
into the dataset's folder, in order, a file a partition: nothing goes through the driver's memory but what is asked for.
"""

import contextlib
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seqrec_cli.data.large import definition
from seqrec_cli.data.large.room import ShortageError
from seqrec_cli.data.large.stage_state import StagedFile
from seqrec_cli.data.large.staged_table import data_columns, union
from seqrec_cli.machine import GIB, cores

MISSING = (
    "dataset.engine=spark needs PySpark and Java 17, and {lacks}; pip install 'seqrec[spark]', or dataset.engine=duckdb"
)
BATCH = 1 << 19  # ordered rows that are handed on at once
ROWS_A_PARTITION = 1 << 20  # about 40 MB of a shuffle
# Who sets one of these configures Spark.
CONFIGURED_BY = ("PYSPARK_GATEWAY_PORT", "PYSPARK_SUBMIT_ARGS", "SPARK_CONF_DIR", "SPARK_HOME")
OURS = {
    "spark.sql.ansi.enabled": "true",
    "spark.sql.ansi.doubleQuotedIdentifiers": "true",  # as in the statements of `definition.py`
    "spark.sql.ansi.enforceReservedKeywords": "false",  # `user` is a column there
    "spark.sql.maxPlanStringLength": "0",
}


class Spark:
    """A table of staged rows, and the statements of `definition.py` over it."""

    def __init__(self, staged: Path, files: Sequence[StagedFile], scratch: Path, *, memory: int, disk: int) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of pandas 3, which is not used here
                from pyspark.errors import PySparkException
        except ImportError:
            raise ShortageError(MISSING.format(lacks="PySpark is not installed")) from None
        logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)  # its errors are told in one line
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch, self._numbers, self._errors = scratch, iter(range(1 << 30)), PySparkException
        with self._in_words():
            self._began, self._spark = _session(scratch, memory, sum(file.rows for file in files))
            self._before = {name: self._spark.conf.get(name, None) for name in OURS}
            for name, value in OURS.items():
                self._spark.conf.set(name, value)
            self.columns = data_columns(files)
            self._spark.sql(union(staged.absolute(), files, self._view)).createOrReplaceTempView("staged")

    def ids(self, column: str) -> pa.Array:
        """The distinct raw ids of a column, sorted; int64 or text."""
        return self._one(definition.ids(column, "staged"))

    def numbered(self, column: str) -> pa.Array:
        """The distinct values of a column, in the order of their first rows."""
        return self._one(definition.numbered(column, "staged"))

    def code(self, column: str, ids: pa.Array) -> None:
        """Take these ids, in their order, for the codes of a column."""
        self._register(f"{column}_ids", pa.table({"id": ids, "code": pa.array(np.arange(len(ids), dtype=np.int32))}))

    def ordered(self, columns: Sequence[str], coded: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows in the log's order, with codes in `coded` columns and others as they are."""
        rows = definition.coded(columns, "staged", {column: f"{column}_ids" for column in coded})
        yield from self._batches(definition.ordered([*coded, *columns], f"({rows})"))

    def described(self, of: str, column: str) -> pa.Table:
        """`code` of an item or user, the first `value` that a row has of it, and whether another `differs`."""
        found = definition.described(of, column, "staged")
        return self._table(f"SELECT code, value, differs FROM ({found}) JOIN {of}_ids USING (id) ORDER BY code")

    def first_of(self, column: str, among: pa.Array) -> str:
        """Which of these ids comes first in the log."""
        self._register("given", pa.table({"given_id": among}))
        found = f'SELECT "{column}" FROM staged LEFT SEMI JOIN given ON given_id = "{column}"'
        return str(self._table(f"{found} ORDER BY place LIMIT 1").column(0)[0].as_py())

    def never_without_blanks(self, column: str) -> int:
        """How many distinct values of a column had blanks around them in every row."""
        every = f'SELECT 1 FROM staged GROUP BY "{column}" HAVING bool_and("{column}_blank")'
        return int(self._table(f"SELECT count(*) AS count FROM ({every})").column(0)[0].as_py())

    def close(self) -> None:
        """End the session, if it was begun here."""
        with contextlib.suppress(self._errors):
            if self._began:
                self._spark.stop()
                return
            for name, value in self._before.items():
                self._spark.conf.unset(name) if value is None else self._spark.conf.set(name, value)

    def _view(self, paths: Sequence[Path]) -> str:
        name = f"files_{next(self._numbers)}"
        self._spark.read.parquet(*(path.as_uri() for path in paths)).createOrReplaceTempView(name)
        return name

    def _register(self, name: str, table: pa.Table) -> None:
        path = self._scratch.absolute() / f"{name}.parquet"
        pq.write_table(table, path)
        with self._in_words():
            self._spark.read.parquet(path.as_uri()).createOrReplaceTempView(name)

    def _batches(self, statement: str) -> Iterator[pa.RecordBatch]:
        """The statement's rows in its order: a sort divides them by ranges, whose files are named in their order."""
        folder = self._scratch.absolute() / f"answer-{next(self._numbers)}"
        with self._in_words():
            self._spark.sql(statement).write.parquet(folder.as_uri())
        for path in sorted(folder.glob("part-*.parquet")):
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(batch_size=BATCH)
        shutil.rmtree(folder, ignore_errors=True)

    def _table(self, statement: str) -> pa.Table:
        return pa.Table.from_batches(list(self._batches(statement)))

    def _one(self, statement: str) -> pa.Array:
        columns = [batch.column(0) for batch in self._batches(statement)]
        kind = pa.int64() if columns and pa.types.is_integer(columns[0].type) else pa.string()
        return pa.concat_arrays([column.cast(kind) for column in columns] or [pa.array([], kind)])

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            if "JAVA_GATEWAY" in said:
                raise ShortageError(MISSING.format(lacks=f"Java did not start ({said})")) from None
            if "No space left" in str(error):
                raise ShortageError(f"no disk is left for sorting: {said}; free some, or set data_dir") from None
            raise ShortageError(f"Spark: {said}") from None


def _session(scratch: Path, memory: int, rows: int) -> tuple[bool, Any]:
    """Whether a session was begun here, and the session. Where nobody configured one it is of this machine alone, whose
    heap is the larger part of `memory`; the rest is left for Arrow and NumPy."""
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        return False, active
    builder = SparkSession.builder.appName("seqrec preprocess")
    if not any(name in os.environ for name in CONFIGURED_BY):
        heap = max(memory - GIB, memory * 3 // 5, GIB)
        for name, value in {
            "spark.driver.memory": f"{heap >> 20}m",
            "spark.local.dir": str(scratch.absolute()),
            "spark.sql.shuffle.partitions": str(max(cores(), rows // ROWS_A_PARTITION)),
            "spark.driver.host": "localhost",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.log.level": "ERROR",
        }.items():
            builder = builder.config(name, value)
    return True, builder.getOrCreate()
