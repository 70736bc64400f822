"""Files of requests, read as a stream: users or histories in raw ids, in Parquet, CSV or JSON lines.

Columns: `user`, `history`, `times`, `asked_at`, and the context attributes of the data. Rows are counted from 0.
"""

import csv
import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from pydantic_core import from_json

from seqrec_cli.config.errors import SeqrecError, first_line, nearest
from seqrec_cli.data.request_columns import FIXED, LISTS, plain_column

BLOCK = 16 << 20  # bytes that are parsed at once of a CSV file; a row has to fit
KINDS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json"}
CONTEXT = "context"  # JSON lines may have the context attributes in an object of this name


def kind_of(path: Path, what: str) -> str:
    """`parquet`, `csv` or `json` by the file's suffix (.gz may follow the latter two's).

    Raises SeqrecError, naming the setting `what`, for another one.
    """
    name = path.name.lower()
    packed = name.endswith(".gz")
    kind = KINDS.get(Path(name.removesuffix(".gz")).suffix)
    if kind is None or (packed and kind == "parquet"):
        raise SeqrecError(f"{what}={path}: let its name end in .parquet, .csv, .jsonl, .csv.gz or .jsonl.gz")
    return kind


@dataclass(frozen=True)
class RequestFile:
    """A file whose columns are known and of use."""

    path: Path
    kind: str
    columns: tuple[str, ...]
    separator: str  # of lists that are text

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"input={self.path}"

    @classmethod
    def open(cls, path: Path, contexts: Sequence[str], separator: str) -> "RequestFile":
        """Read its head. Raises SeqrecError for a file that is not there or none of its kind, and for columns that are
        missing or of no use; `contexts` are the context attributes of the data."""
        kind = kind_of(path, "input")
        if not path.is_file():
            raise SeqrecError(f"input={path}: no such file")
        found = {"parquet": _parquet_names, "csv": _csv_names, "json": _json_names}[kind](path)
        columns = check_columns(found, contexts, f"input={path}", of_lines=kind == "json")
        return cls(path, kind, columns, separator)

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """Tables of so many rows (the last of fewer), their columns in one type each (`request_columns`).

        Raises SeqrecError, naming the row or the line, where the file is malformed.
        """
        first = 0
        for table in rechunked(self._tables(rows), rows):
            yield in_plain_columns(table, self.columns, self.separator, label=self.label, first=first)
            first += len(table)

    def _tables(self, rows: int) -> Iterator[pa.Table]:
        if self.kind == "json":
            yield from _json_tables(self.path, self.columns, rows)
            return
        try:
            if self.kind == "parquet":
                with pq.ParquetFile(self.path) as file:
                    for batch in file.iter_batches(batch_size=rows, columns=list(self.columns)):
                        yield pa.Table.from_batches([batch])
                return
            with _csv_reader(self.path, self.columns) as reader:
                for batch in reader:
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the file's
                raise
            raise SeqrecError(f"{self.label}: not a readable {self.kind} file ({first_line(error)})") from None


def check_columns(
    found: Sequence[str], contexts: Sequence[str], label: str, *, of_lines: bool = False
) -> tuple[str, ...]:
    """Those that are read; of JSON lines all that there are, for a line need not have each.

    Raises SeqrecError for columns that are missing, twice there or of no use.
    """
    known = (*FIXED, *contexts)
    for nth, name in enumerate(found):
        if name in found[:nth]:
            raise SeqrecError(f"{label}: several columns are called '{name}'")
        if name not in known and not (of_lines and name == CONTEXT):
            raise SeqrecError(
                f"{label}: no use for the column '{name}'{nearest(name, known)} (have: {', '.join(known)}); "
                "rename it or leave it out"
            )
    if not of_lines and "user" not in found and "history" not in found:
        raise SeqrecError(f"{label}: it has neither a column 'user' nor 'history'")
    return tuple(name for name in known if name in found or of_lines)


def in_plain_columns(table: pa.Table, names: Sequence[str], separator: str, *, label: str, first: int) -> pa.Table:
    """A chunk's columns in one type each (`request_columns`); its first row is row `first` of all."""
    return pa.table(
        {name: plain_column(table.column(name), name, separator, label=label, first=first) for name in names}
    )


def rechunked(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of so many, the last of fewer."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += len(table)
        if count < rows:
            continue
        whole = pa.concat_tables(waiting)
        full = count - count % rows
        yield from (whole.slice(start, rows) for start in range(0, full, rows))
        waiting, count = [whole.slice(full)], count - full
    if count:
        yield pa.concat_tables(waiting)


def _parquet_names(path: Path) -> list[str]:
    try:
        with pq.ParquetFile(path) as file:
            return list(file.schema_arrow.names)
    except pa.ArrowException as error:
        raise SeqrecError(f"input={path}: not a readable Parquet file ({first_line(error)})") from None


def _text(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _delimiter(path: Path) -> str:
    return "\t" if ".tsv" in path.name.lower() else ","


def _csv_names(path: Path) -> list[str]:
    try:
        with _text(path) as file:
            head = file.readline(1 << 20).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SeqrecError(f"input={path}: not a readable CSV file ({first_line(error)})") from None
    if not head.strip():
        raise SeqrecError(f"input={path}: its first line is empty; it has to name the columns")
    return next(csv.reader([head], delimiter=_delimiter(path)))


def _csv_reader(path: Path, columns: Sequence[str]) -> pacsv.CSVStreamingReader:
    convert = pacsv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,  # `""` is an empty history, nothing at all is none
    )
    return pacsv.open_csv(
        pa.input_stream(str(path)),
        read_options=pacsv.ReadOptions(block_size=BLOCK, use_threads=False),
        parse_options=pacsv.ParseOptions(delimiter=_delimiter(path)),
        convert_options=convert,
    )


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines, and each one's line (from 1); blank lines are none."""
    number = 0
    try:
        with _text(path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                value = from_json(line)
                if not isinstance(value, dict):
                    raise SeqrecError(f"input={path}: line {number} is no JSON object")
                yield number, value
    except ValueError as error:
        raise SeqrecError(f"input={path}: line {number} is no JSON ({first_line(error)})") from None
    except (EOFError, gzip.BadGzipFile) as error:
        raise SeqrecError(f"input={path}: not a readable file ({first_line(error)})") from None


def _json_names(path: Path) -> list[str]:
    for _, value in _lines(path):
        return list(value)
    raise SeqrecError(f"input={path}: it holds no rows")


def _json_tables(path: Path, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
    values: dict[str, list[Any]] = {name: [] for name in columns}
    waiting = 0
    for number, row in _lines(path):
        where = f"input={path}: line {number}"
        inner = row.pop(CONTEXT, None) or {}
        if not isinstance(inner, dict):
            raise SeqrecError(f"{where}: {CONTEXT} is no object")
        for name in (row := row | inner):
            if name not in values:
                raise SeqrecError(f"{where}: no use for '{name}'{nearest(name, columns)} (have: {', '.join(columns)})")
        for name, column in values.items():
            column.append(_json_value(row.get(name), name, where))
        waiting += 1
        if waiting == rows:
            yield _json_table(values)
            values, waiting = {name: [] for name in columns}, 0
    if waiting:
        yield _json_table(values)


def _json_table(values: dict[str, list[Any]]) -> pa.Table:
    return pa.table(
        {
            name: pa.array(column, pa.list_(pa.string()) if name in LISTS else pa.string())
            for name, column in values.items()
        }
    )


def _json_value(value: Any, name: str, where: str) -> Any:
    """As text, or a list of texts."""
    if value is None:
        return None
    if name in LISTS:
        if not isinstance(value, list):
            raise SeqrecError(f"{where}: {name} is {value!r:.60}; give a list")
        return [_json_value(each, f"an element of {name}", where) for each in value]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool | list | dict) or (isinstance(value, float) and name in FIXED):
        raise SeqrecError(f"{where}: {name} is {value!r:.60}; give text or a whole number")
    return str(value)
