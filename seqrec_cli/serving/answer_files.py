"""Tables of answers in files: Parquet, CSV or JSON lines by the name's suffix, in parts that become one file.

What the file holds depends on the rows alone, not on when or how often the work was interrupted.
"""

import gzip
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from seqrec_cli.data.request_files import kind_of, rechunked
from seqrec_cli.files import atomic_file

ROWS_OF_A_GROUP = 1 << 18  # of Parquet's row groups


class AnswerFile:
    """The file that answers go to."""

    def __init__(self, path: Path) -> None:
        """Raises SeqrecError for a suffix of no known kind."""
        self.path, self.kind = path, kind_of(path, "output")

    def write_part(self, table: pa.Table, path: Path) -> None:
        """A part of the rows, whole or not at all."""
        with atomic_file(path) as temporary:
            if self.kind == "parquet":
                pq.write_table(table, temporary)
            elif self.kind == "csv":
                options = pacsv.WriteOptions(include_header=False, delimiter=self._delimiter, quoting_style="needed")
                pacsv.write_csv(table, temporary, options)
            else:
                temporary.write_bytes(json_lines(table))

    def join(self, parts: Sequence[Path], schema: pa.Schema) -> None:
        """The file of all parts, whole or not at all."""
        with atomic_file(self.path) as temporary:
            if self.kind == "parquet":
                with pq.ParquetWriter(temporary, schema) as writer:
                    for table in rechunked(_tables(parts), ROWS_OF_A_GROUP):
                        writer.write_table(table, row_group_size=ROWS_OF_A_GROUP)
                return
            with self._packed(temporary) as file:
                if self.kind == "csv":
                    file.write((self._delimiter.join(schema.names) + "\n").encode())
                for part in parts:
                    with part.open("rb") as source:
                        shutil.copyfileobj(source, file, 1 << 20)

    @property
    def _delimiter(self) -> str:
        return "\t" if ".tsv" in self.path.name.lower() else ","

    @contextmanager
    def _packed(self, path: Path) -> Iterator[IO[bytes]]:
        with path.open("wb") as plain:
            if self.path.suffix.lower() != ".gz":
                yield plain
                return
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=plain, mtime=0) as packed:  # no moment, no name
                yield packed  # type: ignore[misc]


def _tables(parts: Iterable[Path]) -> Iterator[pa.Table]:
    for part in parts:
        with pq.ParquetFile(part) as file:
            yield file.read()


def json_lines(table: pa.Table) -> bytes:
    """An object a row, its columns in their order; numbers in the fewest digits that are theirs."""
    if not len(table):
        return b""
    pieces: list[Any] = []
    for nth, name in enumerate(table.column_names):
        pieces += [("{" if nth == 0 else ", ") + json.dumps(name) + ": ", _json_texts(table.column(name))]
    lines = pc.binary_join_element_wise(*pieces, "}\n", "")
    return "".join(lines.to_pylist()).encode()


def _json_texts(column: pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks()
    values = values if isinstance(values, pa.Array) else pa.concat_arrays(values.chunks)
    if pa.types.is_string(values.type):
        coded = values.dictionary_encode()
        texts = pa.array([json.dumps(text, ensure_ascii=False) for text in coded.dictionary.to_pylist()], pa.string())
        return pc.fill_null(texts.take(coded.indices), "null")
    return pc.fill_null(values.cast(pa.string()), "null")
