"""The rows of one part of a log, some at a time: Parquet by batches of rows, text by blocks of the file.

JSON lines and members of zip archives are read whole, a part at a time.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pyarrow as pa

from seqrec_cli.config.dataset_text import TextConfig
from seqrec_cli.config.errors import SeqrecError, first_line
from seqrec_cli.data.columns import Column, Columns, position_of, resolve
from seqrec_cli.data.delimited import Source, open_text, unreadable
from seqrec_cli.data.json_columns import json_columns
from seqrec_cli.data.large.room import ShortageError
from seqrec_cli.data.parts import Part
from seqrec_cli.data.remote import RemoteFile
from seqrec_cli.data.text_form import TextForm

READ_AHEAD = 8 << 20  # bytes of a column of Parquet that are fetched at once


def batches(part: Part, cfg: TextConfig, wanted: Sequence[Column], *, rows: int) -> Iterator[Columns]:
    """The part's rows in order, about so many at once, with the columns of its folders (`day=2024-05-01`).

    What was understood of the file is noted with the last ones. Raises SeqrecError as reading it whole does.
    """
    keys = dict(part.keys)
    inside = [column for column in wanted if column not in keys]
    if part.kind == "parquet":
        found = _of_parquet(part, inside, rows=rows)
    elif part.kind == "lines":
        found = iter([json_columns(part.read(), part.label, inside)])
    else:
        found = _of_text(part, cfg, inside, rows=rows)
    for columns in found:
        for column in dict.fromkeys(wanted):
            if column in keys:
                columns = columns.with_constant(column, keys[str(column)])
        yield columns


def _of_parquet(part: Part, wanted: Sequence[Column], *, rows: int) -> Iterator[Columns]:
    import pyarrow.parquet as pq

    first = 0
    try:
        with part.opened() as found_at, contextlib.ExitStack() as stack:
            source = stack.enter_context(found_at.open()) if isinstance(found_at, RemoteFile) else found_at
            source = pa.BufferReader(source) if isinstance(source, bytes) else source
            file = stack.enter_context(pq.ParquetFile(source, buffer_size=READ_AHEAD))
            known = file.schema_arrow.names
            found = {column: resolve(column, known, part.label) for column in wanted}
            names = list(dict.fromkeys(found.values()))
            if not file.metadata.num_rows:
                yield Columns(file.read(columns=names), part.label, found, known=known)
            for batch in file.iter_batches(batch_size=rows, columns=names):
                table = pa.Table.from_batches([batch])
                yield Columns(table, part.label, found, place=_counted_from(first), known=known)
                first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _kind(part)(f"{part.label} cannot be read: {first_line(error)}") from None


def _of_text(part: Part, cfg: TextConfig, wanted: Sequence[Column], *, rows: int) -> Iterator[Columns]:
    told = TextForm.told(cfg.delimiter, cfg.encoding, cfg.header, quoted=cfg.quoted, names=cfg.columns)
    position = partial(position_of, label=part.label)
    first, waiting, count = 0, list[pa.Table](), 0
    with part.opened() as data:
        source = Source(data, part.label)
        try:
            opened = open_text(source, told, wanted, resolve=position, coded=())
            found = {column: str(position(column, opened.names)) for column in wanted}

            def columns(notes: Sequence[str] = ()) -> Columns:
                table = pa.concat_tables(waiting)
                place = _later(opened.text.place, first)
                return Columns(table, part.label, found, place=place, notes=notes, known=opened.names)

            for table in opened.text.batches(opened.width, opened.kinds):
                waiting.append(table)
                count += len(table)
                if count >= rows:
                    yield columns()
                    first, waiting, count = first + count, [table.slice(0, 0)], 0
            if waiting:
                yield columns(opened.notes(told))
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _kind(part)(unreadable(source, error)) from None


def _kind(part: Part) -> type[SeqrecError]:
    """Of a file elsewhere the next try may read what this one did not."""
    return ShortageError if isinstance(part.file, RemoteFile) else SeqrecError


def _counted_from(first: int) -> Callable[[int], str]:
    return lambda row: f"row {first + row + 1}"


def _later(place: Callable[[int], str], first: int) -> Callable[[int], str]:
    return lambda row: place(first + row)


def place_in(part: Part, cfg: TextConfig, row: int) -> str:
    """Where a row (from 0) of a part is, in words."""
    if part.kind != "text":
        return f"row {row + 1}"
    with part.opened() as data:
        told = TextForm.told(cfg.delimiter, cfg.encoding, cfg.header, quoted=cfg.quoted, names=cfg.columns)
        opened = open_text(Source(data, part.label), told, (), resolve=lambda column, known: 0, coded=())
        return opened.text.place(row)
