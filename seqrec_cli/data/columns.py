"""Columns of delimited text or Parquet as arrays, where a bad value is named by its row.

Text is parsed as text and converted here. Rows count from 1 and leave out a header line. Legend: N rows.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqrec_cli.config.errors import SeqrecError, first_line, nearest
from seqrec_cli.data.arrow import codes_of, from_numpy, mask_of, one_array, to_numpy
from seqrec_cli.data.delimited import Source, read_delimited
from seqrec_cli.data.number_text import as_numbers, fault
from seqrec_cli.data.text_form import Header, TextForm
from seqrec_cli.data.time_column import TimeColumn
from seqrec_cli.data.times import TimeUnit, read_times

Column = int | str  # a position from 0, or a name
RECBOLE = ("token", "token_seq", "float", "float_seq")  # what its files call a column's type


class NoColumnError(SeqrecError):
    """A column that is not there, or more than once."""

    def __init__(self, message: str, column: Column, known: Sequence[str]) -> None:
        super().__init__(message)
        self.column, self.known = column, tuple(known)


class Columns:
    """Some columns of one file, by name or position. `label` names the file in messages, and `place` says where in it
    a row is (`line 7`; rows count from 0). `notes` is what reading had to decide, `known` the names of all its columns,
    in their order, those that were not asked for too."""

    def __init__(
        self,
        table: pa.Table,
        label: str,
        names: Mapping[Column, str],
        *,
        place: Callable[[int], str] | None = None,
        notes: Sequence[str] = (),
        known: Sequence[str] = (),
    ) -> None:
        self._table = table.combine_chunks()  # once, and not at every look at a column
        self.label, self._names, self.notes = label, dict(names), tuple(notes)
        self.known = tuple(known)
        self.place: Callable[[int], str] = place or (lambda row: f"row {row + 1}")

    @classmethod
    def parse(
        cls,
        data: bytes | Path,
        label: str,
        *,
        delimiter: str,
        columns: Sequence[Column],
        names: Sequence[str] | None = None,
        header: Header = False,
        quoted: bool = False,
        encoding: str = "utf-8",
        coded: Collection[Column] = (),
    ) -> "Columns":
        """Parse delimited text; a path may be compressed (.gz, .bz2, .zst).

        `delimiter`, `encoding` and `header` may be "auto": recognised, and told in `notes`. Without `names` and
        `header` the columns are called by position. Those in `coded` repeat their values, which are kept once. Raises
        SeqrecError on a missing column, a line with another number of fields, a torn file.
        """
        form = TextForm.told(delimiter, encoding, header, quoted=quoted, names=names)
        position = partial(position_of, label=label)
        read = read_delimited(Source(data, label), form, columns, resolve=position, coded=coded)
        found = {column: str(position(column, read.names)) for column in columns}
        return cls(read.table, label, found, place=read.place, notes=read.notes, known=read.names)

    @classmethod
    def parquet(cls, data: bytes | Path, label: str, columns: Sequence[Column]) -> "Columns":
        """Read columns of a Parquet file."""
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(pa.BufferReader(data) if isinstance(data, bytes) else data) as file:
                known = file.schema_arrow.names
                found = {column: resolve(column, known, label) for column in columns}
                return cls(file.read(columns=list(dict.fromkeys(found.values()))), label, found, known=known)
        except (pa.ArrowException, OSError) as error:
            raise SeqrecError(f"{label} cannot be read: {first_line(error)}") from None

    @classmethod
    def joined(cls, parts: Sequence["Columns"], label: str | None = None) -> "Columns":
        """The rows of several files that were asked for the same columns, one file after another.

        A column that is text in one and numbers in another is text in all. `label` names the whole.
        """
        first, names = parts[0], parts[0]._names
        if len(parts) == 1 and label is None:
            return first
        tables = [pa.table({names[key]: part._table[part._names[key]] for key in names}) for part in parts]
        columns = {name: _of_one_type([table[name] for table in tables]) for name in tables[0].column_names}
        ends = list(accumulate(len(part) for part in parts))

        def place(row: int) -> str:
            nth = bisect_right(ends, row)
            return f"{parts[nth].label}: {parts[nth].place(row - ends[nth] + len(parts[nth]))}"

        notes = dict.fromkeys(note for part in parts for note in part.notes)
        label = label or f"{first.label} and {len(parts) - 1} more"
        return cls(pa.table(columns), label, names, place=place, notes=tuple(notes), known=first.known)

    @property
    def names(self) -> tuple[Column, ...]:
        """What its columns were asked for by."""
        return tuple(self._names)

    def has(self, column: Column) -> bool:
        """Whether it was asked for, or added."""
        return column in self._names

    def mapped(self, change: Callable[[Column, pa.Array], pa.Array], place: Callable[[int], str]) -> "Columns":
        """Other rows: every column as `change` makes it, and where each row is."""
        table = pa.table({str(nth): change(column, self.array(column)) for nth, column in enumerate(self._names)})
        return self._with(table, names={column: str(nth) for nth, column in enumerate(self._names)}, place=place)

    def _with(
        self,
        table: pa.Table,
        *,
        names: Mapping[Column, str] | None = None,
        place: Callable[[int], str] | None = None,
        notes: Sequence[str] = (),
    ) -> "Columns":
        """The same file's, with another table, and what changes with it. Notes are added."""
        names, place = names or self._names, place or self.place
        return Columns(table, self.label, names, place=place, notes=(*self.notes, *notes), known=self.known)

    def with_constant(self, column: Column, value: str | int | None) -> "Columns":
        """And one more column, of one value in all rows."""
        kind = pa.int8() if isinstance(value, int) else pa.string()
        table = self._table.append_column(f"\0{column}", pa.repeat(pa.scalar(value, kind), len(self)))
        return self._with(table, names=self._names | {column: f"\0{column}"})

    def array(self, column: Column) -> pa.Array:
        """A column without dictionaries, texts in one type."""
        values = self._table.column(self._names[column])
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
            values = values.cast(pa.string())
        return one_array(values)

    def coded(self, column: Column) -> tuple[np.ndarray, pa.Array]:
        """A column as codes int32 [N] (-1: none) and the value of each code, in the order of their first rows."""
        values = self._table.column(self._names[column])
        try:
            coded = one_array(values) if pa.types.is_dictionary(values.type) else self.array(column).dictionary_encode()
        except pa.ArrowNotImplementedError:
            what = f"column {column} is of type {values.type}"
            raise SeqrecError(f"{self.label}: {what}, and one number or text a row is read") from None
        return codes_of(coded), coded.dictionary

    def ids(self, column: Column) -> np.ndarray:
        """Raw ids: int64 where every one is written as a whole number, else an object array of str [N]."""
        codes_N, distinct = self.distinct_ids(column)
        return to_numpy(distinct)[codes_N]

    def distinct_ids(self, column: Column) -> tuple[np.ndarray, pa.Array]:
        """Codes int32 [N] and the raw id of each code, int64 or text."""
        values = self._table.column(self._names[column])
        if values.null_count:
            self._refuse_empty(mask_of(one_array(values).is_null()), column)
        codes_N, distinct = self.coded(column)
        kind = distinct.type
        if pa.types.is_floating(kind) or pa.types.is_binary(kind):  # of a frame with gaps; of Parquet without its types
            distinct = _cast(distinct, pa.int64() if pa.types.is_floating(kind) else pa.string())
        if pa.types.is_integer(kind) or pa.types.is_decimal(kind):  # NUMBER(38) of a database
            numbers = _cast(distinct, pa.int64())
            distinct = distinct.cast(pa.string()) if numbers is None else numbers
        if distinct is None or not (pa.types.is_integer(distinct.type) or pa.types.is_string(distinct.type)):
            raise SeqrecError(f"{self.label}: column {column} is of type {kind}; ids are whole numbers or text")
        if pa.types.is_string(distinct.type):
            numbers = _cast(distinct, pa.int64())
            if numbers is not None and numbers.cast(pa.string()).equals(distinct):  # not so for 007: it and 7 are two
                distinct = numbers
        if pa.types.is_string(distinct.type) and (empty := pc.index(distinct, "").as_py()) >= 0:
            self._refuse_empty(codes_N == empty, column)
        return codes_N, distinct

    def numbers(self, column: Column) -> np.ndarray:
        """Finite numbers, float64 [N]."""
        values = self.array(column)
        numbers = as_numbers(values)
        if numbers is None:
            raise SeqrecError(f"{self.label}: column {column} is of type {values.type}, not numbers")
        numbers_N = to_numpy(numbers.fill_null(from_numpy(np.array([np.nan]))[0]))
        if not np.isfinite(numbers_N).all():
            row = int(np.argmax(~np.isfinite(numbers_N)))
            raise SeqrecError(f"{self.label}: {column} {fault(values[row].as_py(), self.place(row))}")
        return numbers_N

    def time_column(self, column: Column) -> TimeColumn:
        """The column as `read_times` takes it."""
        return TimeColumn(self.array(column), self.label, column, self.place)

    def times(self, column: Column, unit: TimeUnit) -> tuple[np.ndarray, int]:
        """Times as whole ticks, int64 [N], and the ticks of a second (see `data/times.py`)."""
        found = read_times(self.time_column(column), unit)
        return found.ticks_N, found.per_second

    def texts(self, column: Column) -> tuple[np.ndarray, list[str]]:
        """A categorical column as codes int32 [N] (-1: empty) and the text of each code."""
        codes_N, distinct = self.coded(column)
        texts = _cast(distinct, pa.string())
        if texts is None:
            raise SeqrecError(
                f"{self.label}: column {column} is of type {distinct.type}; attributes are numbers or text"
            )
        return codes_N, texts.to_pylist()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def where(self, keep_N: np.ndarray) -> "Columns":
        """Some of the rows (a mask)."""
        kept = np.flatnonzero(keep_N)
        return self._with(self._table.take(from_numpy(kept)), place=lambda row: self.place(int(kept[row])))

    def noted(self, *notes: str) -> "Columns":
        """The same with more notes."""
        return self._with(self._table, notes=notes)

    def values(self, column: Column) -> pa.Array:
        """A column as it was read."""
        return one_array(self._table.column(self._names[column]))

    def replaced(self, column: Column, values: pa.Array) -> "Columns":
        """The same with other values in a column."""
        name = self._names[column]
        return self._with(self._table.set_column(self._table.column_names.index(name), name, values))

    def whole_numbers(self, column: Column) -> np.ndarray:
        """True at rows that hold digits alone, bool [N]."""
        codes_N, texts = self.coded(column)
        return np.append(mask_of(pc.match_substring_regex(texts, "^[0-9]{1,18}$")), False)[codes_N]

    def lists(self, column: Column, separator: str) -> tuple[np.ndarray, np.ndarray]:
        """Whole numbers of all rows' lists, one after another, int64 [S], and where each row's begin, int64 [N + 1]."""
        split = pc.split_pattern(self.array(column).fill_null(""), separator)
        texts = split.flatten()
        present_S = to_numpy(pc.not_equal(texts, "").cast(pa.uint8())).astype(np.int64)
        bounds = np.concatenate([[0], np.cumsum(present_S)])[to_numpy(split.offsets) - split.offsets[0].as_py()]
        try:
            numbers = texts.filter(pc.not_equal(texts, "")).cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise SeqrecError(f"{self.label}: {column} holds no lists of whole numbers ({first_line(error)})") from None
        return to_numpy(numbers), bounds

    def _refuse_empty(self, empty_N: np.ndarray, column: Column) -> NoReturn:
        raise SeqrecError(f"{self.label}: {self.place(int(np.argmax(empty_N)))} has an empty {column}; remove the row")


def position_of(column: Column, known: Sequence[str], label: str) -> int:
    """Where a column stands among `known`: at its place, or by `resolve` at its name's."""
    if isinstance(column, int) and 0 <= column < len(known):
        return column
    return known.index(resolve(column, known, label))


def resolve(column: Column, known: Sequence[str], label: str) -> str:
    """The name of a column given by name or position."""
    if isinstance(column, int):
        if not 0 <= column < len(known):
            what = f"{label} has {len(known)} columns, none at position {column} (the first is 0)"
            raise NoColumnError(what, column, known)
        column = known[column]
    if column not in known:  # RecBole's files name the type too: user_id:token
        typed = [name for name in known if name.partition(":")[0] == column and name.partition(":")[2] in RECBOLE]
        column = typed[0] if len(typed) == 1 else column
    if list(known).count(column) != 1:
        problem = (
            f"more than one column '{column}'" if column in known else f"no column '{column}'{nearest(column, known)}"
        )
        shown = ", ".join(known[:20]) + ", ..." * (len(known) > 20)
        raise NoColumnError(f"{label} has {problem} (has: {shown[:400]})", column, known)
    return column


def _of_one_type(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """The values one after another; as text where their types have nothing else in common."""
    if len({column.type for column in columns}) == 1:  # codes stay codes
        chunks = [chunk for column in columns for chunk in column.chunks]
        return pa.chunked_array(chunks, columns[0].type).unify_dictionaries()
    plain = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column for column in columns
    ]
    try:
        tables = [pa.table({"": column}) for column in plain]
        return pa.concat_tables(tables, promote_options="permissive")[""]
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        texts = [column.cast(pa.string()) for column in plain]
        return pa.chunked_array([chunk for column in texts for chunk in column.chunks], pa.string())


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """None where the values are no such."""
    try:
        return values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
