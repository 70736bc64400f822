"""Columns of delimited text or Parquet as arrays, where a bad value is named by its row.

Text is parsed as text and converted here. Rows count from 1 and leave out a header line. Legend: N rows.
"""

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.data.arrow import one_array, to_numpy
from seqrec_cli.data.times import TimeColumn, TimeUnit, read_times

Column = int | str  # a position from 0, or a name
_FIRST_BYTES = 1 << 20


class Columns:
    """Some columns of one file, by name or position. `label` names the file in messages."""

    def __init__(self, table: pa.Table, label: str, names: dict[Column, str]) -> None:
        self._table, self.label, self._names = table, label, names
        self.place: Callable[[int], str] = lambda row: f"row {row + 1}"

    @classmethod
    def parse(
        cls,
        data: bytes | Path,
        label: str,
        *,
        delimiter: str,
        columns: Sequence[Column],
        names: Sequence[str] | None = None,
        header: bool = False,
        quoted: bool = False,
    ) -> "Columns":
        """Parse delimited text; a path may be compressed (.gz, .bz2, .zst).

        Without `names` and `header` the columns are called by position. Raises SeqrecError on a missing column, a
        line with another number of fields, a torn file.
        """

        def stream() -> Any:
            return (
                pa.BufferReader(data) if isinstance(data, bytes) else pa.input_stream(str(data), compression="detect")
            )

        def read(threads: bool) -> pa.Table:
            return pa.csv.read_csv(
                stream(),
                pa.csv.ReadOptions(column_names=known, skip_rows=int(header), use_threads=threads),
                pa.csv.ParseOptions(delimiter=delimiter, quote_char='"' if quoted else False),
                pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(wanted, pa.string()),
                    include_columns=wanted,
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )

        try:
            first = _first_line(stream(), label, delimiter, quoted=quoted)
            known = first if header else list(names or map(str, range(len(first))))
            found = {column: _resolve(column, known, label) for column in columns}
            wanted = list(dict.fromkeys(found.values()))
            try:
                table = read(threads=True)
            except pa.ArrowInvalid:
                table = read(threads=False)  # one thread alone knows the row of its error
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise SeqrecError(f"{label} cannot be read: {_one_line(error)}") from None
        return cls(table, label, found)

    @classmethod
    def parquet(cls, path: Path, columns: Sequence[Column]) -> "Columns":
        """Read columns of a Parquet file."""
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                known = file.schema_arrow.names
                found = {column: _resolve(column, known, path.name) for column in columns}
                return cls(file.read(columns=list(dict.fromkeys(found.values()))), path.name, found)
        except (pa.ArrowException, OSError) as error:
            raise SeqrecError(f"{path.name} cannot be read: {_one_line(error)}") from None

    def _column(self, column: Column) -> pa.Array:
        values = self._table.column(self._names[column])
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if pa.types.is_large_string(values.type):
            values = values.cast(pa.string())
        return one_array(values)

    def ids(self, column: Column) -> np.ndarray:
        """Raw ids: int64 where every one is written as a whole number, else an object array of str [N]."""
        values = self._column(column)
        if values.null_count:
            self._refuse_empty(to_numpy(values.is_null().cast(pa.uint8())), column)
        if not (pa.types.is_integer(values.type) or pa.types.is_string(values.type)):
            self._refuse_type(values, column, "ids are whole numbers or text")
        coded = values.dictionary_encode()
        codes_N, texts = to_numpy(coded.indices), coded.dictionary
        if pa.types.is_integer(texts.type):
            return to_numpy(texts).astype(np.int64)[codes_N]
        try:
            numbers = texts.cast(pa.int64())
            if numbers.cast(pa.string()).equals(texts):  # not so for 007: it and 7 are two ids
                return to_numpy(numbers)[codes_N]
        except pa.ArrowInvalid:
            pass
        texts_K = to_numpy(texts)
        if "" in texts_K:
            self._refuse_empty(texts_K[codes_N] == "", column)
        return texts_K[codes_N]

    def numbers(self, column: Column) -> np.ndarray:
        """Finite numbers, float64 [N]."""
        values = self._column(column)
        try:
            numbers = values.cast(pa.float64())
            numbers_N = np.full(1, np.nan) if numbers.null_count else to_numpy(numbers)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            numbers_N = np.full(1, np.nan)
        if not np.isfinite(numbers_N).all():
            self._refuse_value(values, column, _finite, what="a finite number")
        return numbers_N

    def time_column(self, column: Column) -> TimeColumn:
        """The column as `read_times` takes it."""
        return TimeColumn(self._column(column), self.label, column, self.place)

    def times(self, column: Column, unit: TimeUnit) -> tuple[np.ndarray, int]:
        """Times as whole ticks, int64 [N], and the ticks of a second (see `data/times.py`)."""
        found = read_times(self.time_column(column), unit)
        return found.ticks_N, found.per_second

    def texts(self, column: Column) -> tuple[np.ndarray, list[str]]:
        """A categorical column as codes int32 [N] (-1: empty) and the text of each code."""
        values = self._column(column)
        try:
            coded = values.cast(pa.string()).dictionary_encode()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            self._refuse_type(values, column, "attributes are numbers or text")
        known_N = to_numpy(coded.is_valid().cast(pa.uint8())).astype(bool)
        codes_N = np.frombuffer(coded.indices.buffers()[1], np.int32, len(coded), coded.offset * 4)
        return np.where(known_N, codes_N, -1), coded.dictionary.to_pylist()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def where(self, keep_N: np.ndarray) -> "Columns":
        """Some of the rows (a mask)."""
        return Columns(self._table.filter(pa.array(keep_N.tolist(), pa.bool_())), self.label, self._names)

    def whole_numbers(self, column: Column) -> np.ndarray:
        """True at rows that hold digits alone, bool [N]."""
        digits = pc.fill_null(pc.match_substring_regex(self._column(column), "^[0-9]{1,18}$"), False)
        return to_numpy(digits.cast(pa.uint8())).astype(bool)

    def lists(self, column: Column, separator: str) -> tuple[np.ndarray, np.ndarray]:
        """Whole numbers of all rows' lists, one after another, int64 [S], and where each row's begin, int64 [N + 1]."""
        split = pc.split_pattern(self._column(column).fill_null(""), separator)
        texts = split.flatten()
        present_S = to_numpy(pc.not_equal(texts, "").cast(pa.uint8())).astype(np.int64)
        bounds = np.concatenate([[0], np.cumsum(present_S)])[to_numpy(split.offsets) - split.offsets[0].as_py()]
        try:
            numbers = texts.filter(pc.not_equal(texts, "")).cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise SeqrecError(f"{self.label}: {column} holds no lists of whole numbers ({_one_line(error)})") from None
        return to_numpy(numbers), bounds

    def _refuse_empty(self, empty_N: np.ndarray, column: Column) -> NoReturn:
        raise SeqrecError(f"{self.label}: row {int(np.argmax(empty_N)) + 1} has an empty {column}; remove the row")

    def _refuse_value(self, values: pa.Array, column: Column, read: Callable[[Any], Any], *, what: str) -> NoReturn:
        shown = "of mixed kinds"
        for row, value in enumerate(values.to_pylist(), 1):
            try:
                read(value)
            except (TypeError, ValueError):
                shown = f"{'empty' if value is None else repr(value)} in row {row}"
                break
        raise SeqrecError(f"{self.label}: {column} is {shown}, not {what}")

    def _refuse_type(self, values: pa.Array, column: Column, rule: str) -> NoReturn:
        raise SeqrecError(f"{self.label}: column {column} is of type {values.type}; {rule}")


def _resolve(column: Column, known: Sequence[str], label: str) -> str:
    """The name of a column given by name or position."""
    if isinstance(column, int):
        if not 0 <= column < len(known):
            raise SeqrecError(f"{label} has {len(known)} columns, none at position {column} (the first is 0)")
        column = known[column]
    if list(known).count(column) != 1:
        problem = "more than one column" if column in known else "no column"
        shown = ", ".join(known[:20])
        raise SeqrecError(f"{label} has {problem} '{column}'{nearest(column, known)} (has: {shown})")
    return column


def _first_line(stream: Any, label: str, delimiter: str, *, quoted: bool) -> list[str]:
    """Fields of the first line that is not empty."""
    head = stream.read(_FIRST_BYTES).decode("utf-8-sig", errors="replace")
    line = next((line for line in head.splitlines() if line), None)
    if line is None:
        raise SeqrecError(f"{label} is empty")
    return next(csv.reader([line], delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE))


def _finite(value: Any) -> None:
    if not math.isfinite(float(value)):
        raise ValueError


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
