"""Delimited text as a table of text columns: read by Arrow in one pass, and again, slowly, to name the line of a fault.

Columns of the table are called by position ("0", "1", ...). Legend: N rows.
"""

import codecs
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from seqrec_cli.config.errors import SeqrecError, first_line
from seqrec_cli.data.file_kinds import compression
from seqrec_cli.data.remote import RemoteFile, stream_of
from seqrec_cli.data.text_form import (
    AUTO,
    BLANKS,
    Head,
    Separator,
    TextForm,
    dialect,
    find_delimiter,
    find_encoding,
    find_header,
    lines_of,
    split_head,
)

HEAD = 1 << 20  # bytes that a guess is made from; the first line must end in them
LINES = 400  # lines of it that are looked at
BLOCK = 4 << 20  # bytes a thread parses at once; no line may be longer
_END = "\0end\n"  # a line behind the last one, to see whether a quoted field takes it in
CODED = pa.dictionary(pa.int32(), pa.string())


class Delimited(NamedTuple):
    """A file's rows, the names of all its columns, where a row is in the file, and what was recognised, in words."""

    table: pa.Table
    names: list[str]
    place: Callable[[int], str]
    notes: tuple[str, ...]


class Source(NamedTuple):
    """The bytes of a file, however compressed, and how messages call it."""

    data: bytes | Path | RemoteFile
    label: str

    def open(self) -> Any:
        """Its bytes, decompressed."""
        raw = stream_of(self.data)
        kind = compression(raw.read(16))
        raw.seek(0)
        return raw if kind is None else pa.CompressedInputStream(raw, kind)


def find_form(source: Source, told: TextForm, columns: Sequence[int | str]) -> tuple[TextForm, Head]:
    """The file's form, recognised from its head where it is not told, and its first rows."""
    data = source.open().read(HEAD)
    if not data:
        raise SeqrecError(f"{source.label} is empty")
    encoding = find_encoding(data, told.encoding, source.label)
    try:
        text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(data).removeprefix("\ufeff")
    except UnicodeError as error:  # UTF-16 without its mark, which "replace" does not replace
        raise SeqrecError(f"{source.label} is not {encoding} ({error}); see dataset.encoding") from error
    if not text.strip():
        raise SeqrecError(f"{source.label} holds blank lines alone")
    if found := re.match(r"sep=.", text):
        raise SeqrecError(f"{source.label}: line 1 ('{found[0]}') tells Excel the delimiter and is no row; remove it")
    lines = lines_of(text)
    if len(data) >= HEAD and not text.endswith("\n"):
        lines.pop()  # cut off
        if not lines:
            raise SeqrecError(f"{source.label}: its first line does not end within {HEAD:,} bytes; is it a row a line?")
    text = "".join(lines[:LINES])
    form = told._replace(encoding=encoding)
    if form.delimiter == AUTO:
        form = form._replace(delimiter=find_delimiter(text, form, columns, label=source.label))
    head = split_head(text, Separator(form.delimiter), quoted=form.quoted)
    _check_widths(head, form, source.label, wanted=len(set(columns)))
    return form._replace(header=find_header(head, form, columns, label=source.label)), head


def read_delimited(
    source: Source,
    told: TextForm,
    columns: Sequence[int | str],
    *,
    resolve: Callable[[int | str, Sequence[str]], int],
    coded: Collection[int | str] = (),
) -> Delimited:
    """The wanted columns as text, those in `coded` as codes. `resolve` finds a column's position among names.

    Raises SeqrecError, naming the line, for a torn file, a row with another number of fields, a quote that is never
    closed, bytes that are not of the encoding.
    """
    try:
        opened = open_text(source, told, columns, resolve=resolve, coded=coded)
        table = opened.text.read(opened.width, opened.kinds)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SeqrecError(unreadable(source, error)) from None
    return Delimited(table, opened.names, opened.text.place, opened.notes(told))


class Opened(NamedTuple):
    """A text before its rows are read: its columns' names, and the types of those that are wanted."""

    text: "Text"
    names: list[str]
    width: int
    kinds: dict[str, pa.DataType]

    def notes(self, told: TextForm) -> tuple[str, ...]:
        """What was recognised, and what was met while its rows were read."""
        notes = [f"read as {self.text.form.said()}"] * (AUTO in (told.delimiter, told.encoding, told.header))
        wrapped = self.text.wrapped
        notes += [f"rows that run over several lines of the file, in quoted fields: {wrapped:,}"] * bool(wrapped)
        return tuple(notes)


def open_text(
    source: Source,
    told: TextForm,
    columns: Sequence[int | str],
    *,
    resolve: Callable[[int | str, Sequence[str]], int],
    coded: Collection[int | str],
) -> Opened:
    """The form and the columns of a text. Raises SeqrecError as `read_delimited`."""
    form, head = find_form(source, told, columns)
    width = len(head.rows[0])
    names = [name.strip() for name in head.rows[0]] if form.header else list(form.names or map(str, range(width)))
    if len(names) != width:
        raise SeqrecError(
            f"{source.label}: dataset.columns names {len(names)} columns, its first line has {width} "
            f"({', '.join(head.rows[0])[:80]})"
        )
    wanted = {str(resolve(column, names)) for column in columns}
    as_codes = {str(resolve(column, names)) for column in coded}
    text = Text(source, form, skipped=head.first_ends if form.header else 0)
    return Opened(text, names, width, {name: CODED if name in as_codes else pa.string() for name in sorted(wanted)})


def unreadable(source: Source, error: Exception) -> str:
    said = first_line(error)
    if "Truncated compressed stream" in said or "inflate" in said or "decompress" in said.lower():
        return f"{source.label} cannot be read: it ends early or is damaged as a compressed file ({said}); copy it anew"
    return f"{source.label} cannot be read: {said}"


def _check_widths(head: Head, form: TextForm, label: str, *, wanted: int) -> None:
    """Raises SeqrecError where the first line has other fields than those after it."""
    first = head.rows[0]
    width, count = Counter(map(len, head.rows[1:])).most_common(1)[0] if len(head.rows) > 1 else (len(first), 0)
    shown = ", ".join(first)[:80]
    if len(first) == width == 1 and wanted > 1:
        raise SeqrecError(
            f"{label}: the delimiter ({form.word()}) splits nothing in '{shown}'; dataset.delimiter=auto looks for one"
        )
    if len(first) != width and count > 2 and count >= 0.9 * len(head.rows[1:]):
        last = all(not row[-1].strip() for row in head.rows[1:])
        raise SeqrecError(
            f"{label}: line {head.first_ends} has {_fields(len(first))} ({shown}), the lines after it have {width}"
            + ("; name all columns there" + ", or remove the delimiter at the ends of lines" * last)
            if len(first) > 1
            else f"{label}: line {head.first_ends} ('{shown}') is no row of {width} fields as those after it; remove it"
        )


def _fields(count: int) -> str:
    return f"{count} field{'s' * (count != 1)}"


class Text:
    """A file's text in UTF-8 with one character between fields, and what is counted while it flows."""

    def __init__(self, source: Source, form: TextForm, *, skipped: int) -> None:
        self.source, self.form, self.skipped = source, form, skipped  # physical lines of the header
        self.separator = Separator(form.delimiter)
        self.lines = self.quotes = self.torn = self.wrapped = 0
        self.row_a_line = False  # known to be so

    def stream(self) -> Any:
        """The text from its beginning; counts begin anew."""
        self.lines = self.quotes = self.torn = 0
        decoder = None if self.form.encoding == "utf-8" else codecs.getincrementaldecoder(self.form.encoding)()
        rest = b""

        def recode(chunk: pa.Buffer) -> bytes:
            nonlocal rest
            data, final = chunk.to_pybytes(), len(chunk) == 0
            if decoder is not None:
                try:
                    data = decoder.decode(data, final).encode()
                except UnicodeDecodeError as error:
                    raise SeqrecError(_undecoded(self, error, line=self.lines + 1)) from None
            if b"\0" in data:
                line = self.lines + 1 + data[: data.index(b"\0")].count(b"\n")
                raise SeqrecError(f"{self.source.label}: line {line} holds a NUL byte; the file is damaged or binary")
            if not self.separator.is_itself:
                data, rest = _whole_lines(rest + data, final)
                if self.separator.character.encode() in data:
                    raise SeqrecError(f"{self.source.label} holds the control character 0x1F, which stands for others")
                data = self.separator.applied(data)
            if data:
                self.lines += data.count(b"\n")
                self.quotes += data.count(b'"')
                self.torn = int(data[-1:] != b"\n")
            return data

        return pa.TransformInputStream(self.source.open(), recode)

    def read(self, width: int, types: dict[str, pa.DataType]) -> pa.Table:
        """All rows of the columns that `types` names."""
        try:
            table = pa.csv.read_csv(self.stream(), *self._options(width, types))
        except pa.ArrowInvalid as error:
            raise SeqrecError(self._explain(str(error), width)) from None
        self._check_rows(table.num_rows, width)
        return _with_delimiter(table, self).unify_dictionaries()

    def batches(self, width: int, types: dict[str, pa.DataType]) -> Iterator[pa.Table]:
        """The same rows, a block of the file at a time; what is wrong with the whole is raised behind the last."""
        rows = 0
        try:
            for batch in pa.csv.open_csv(self.stream(), *self._options(width, types)):
                rows += batch.num_rows
                yield _with_delimiter(pa.Table.from_batches([batch]), self)
        except pa.ArrowInvalid as error:
            raise SeqrecError(self._explain(str(error), width)) from None
        self._check_rows(rows, width)

    def _options(self, width: int, types: dict[str, pa.DataType]) -> tuple[Any, Any, Any]:
        names = [str(place) for place in range(width)]
        return (
            pa.csv.ReadOptions(column_names=names, skip_rows=self.skipped, block_size=BLOCK),
            pa.csv.ParseOptions(delimiter=self.separator.character, quote_char='"' if self.form.quoted else False),
            pa.csv.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=[""], strings_can_be_null=True
            ),
        )

    def _check_rows(self, rows: int, width: int) -> None:
        """Raises SeqrecError where a quote that is not closed took in all that follows, of which Arrow says nothing."""
        self.row_a_line = rows + self.skipped == self.lines + self.torn
        if self.quotes and self.form.quoted and not self.row_a_line:
            self.wrapped = sum(lines > 1 for _, lines in self.scan(width))

    def scan(self, width: int | None) -> Iterator[tuple[int, int]]:
        """The line where each row begins (from 1) and how many it has. Raises SeqrecError at a row with other than
        `width` fields, and at a quote that is not closed."""
        label, limit = self.source.label, csv.field_size_limit(1 << 30)
        try:
            text = io.TextIOWrapper(self.stream(), "utf-8", errors="surrogateescape", newline="")
            form = dialect(self.separator, quoted=self.form.quoted)
            reader, ends = csv.reader(itertools.chain(text, [_END]), **form), 0
            for row in reader:
                begins, ends = ends + 1, reader.line_num
                if row and row[-1].endswith((_END, _END.strip())):
                    if len(row) > 1 or ends > begins:
                        raise SeqrecError(
                            f"{label}: a quote in line {begins} is never closed; close it, or set dataset.quoted=false "
                            "if quotes are part of the text"
                        )
                    return
                if not row or ends <= self.skipped:
                    continue
                if width is not None and len(row) != width:
                    raise SeqrecError(self._of_other_width(row, begins, width))
                yield begins, ends - begins + 1
        finally:
            csv.field_size_limit(limit)

    def place(self, row: int) -> str:
        """Where a row (from 0) is in the file."""
        if self.row_a_line:
            return f"line {row + 1 + self.skipped}"
        return f"line {next(itertools.islice(self.scan(None), row, None))[0]}"

    def _of_other_width(self, row: list[str], line: int, width: int) -> str:
        shown = self.form.delimiter if self.separator.is_itself or len(self.form.delimiter) < 5 else " "
        text = (" " if shown == BLANKS else shown).join(row).encode("utf-8", "replace").decode()[:80]
        advice = "mend or remove the line"
        if len(row) > width and self.form.quoted:
            advice += f"; a field that holds the delimiter ({self.form.word()}) must be in double quotes"
        return f"{self.source.label}: line {line} has {_fields(len(row))}, not {width}: {text!r}; {advice}"

    def _explain(self, said: str, width: int) -> str:
        """What is wrong with a file that Arrow refused with these words."""
        label = self.source.label
        if "UTF8" in said:
            self._check_encoding()
        if not sum(1 for _ in self.scan(width)):
            return f"{label} holds no rows below its header"
        if "straddling" in said or "block size" in said:
            return f"{label}: a line is longer than {BLOCK:,} bytes; is it a row a line, and are all quotes closed?"
        return f"{label} cannot be read: {said.splitlines()[0]}"

    def _check_encoding(self) -> None:
        """Raises SeqrecError at the first line that is not UTF-8."""
        file, decoder, lines = self.source.open(), codecs.getincrementaldecoder("utf-8")(), 0
        while chunk := file.read(BLOCK):
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                raise SeqrecError(_undecoded(self, error, line=lines + 1)) from None
            lines += chunk.count(b"\n")


def _whole_lines(data: bytes, final: bool) -> tuple[bytes, bytes]:
    end = len(data) if final else max(data.rfind(b"\n"), data[:-1].rfind(b"\r")) + 1
    return data[:end], data[end:]


def _undecoded(text: Text, error: UnicodeDecodeError, *, line: int) -> str:
    """What to do about a byte that is not of the encoding, in data that begin with that line."""
    label, encoding, data, at = text.source.label, text.form.encoding, error.object, error.start
    line += data[:at].count(b"\n")
    begins = max(data.rfind(mark, max(0, at - 30), at) for mark in b'\n,;\t|"') + 1 or max(0, at - 10)
    word = re.split(rb"[\n\r,;\t|\"]", data[begins : at + 30])[0].decode("latin-1")
    if encoding != "utf-8":
        return f"{label}: line {line} is not {encoding} (byte 0x{data[at]:02X}); see dataset.encoding"
    return (
        f"{label}: line {line} is not UTF-8; set dataset.encoding=latin-1 if this should read {word!r}, else to what "
        "it is (cp1251 Cyrillic, gb18030 Chinese, shift_jis Japanese, ...)"
    )


def _with_delimiter(table: pa.Table, of: Text) -> pa.Table:
    """Quoted fields hold the delimiter again, not the character that stood for it."""
    separator = of.separator
    if separator.is_itself or not of.quotes:
        return table
    text = " " if separator.delimiter == BLANKS else separator.delimiter
    for nth, name in enumerate(table.column_names):
        column = table.column(nth)
        restored = pc.replace_substring(column.cast(pa.string()), separator.character, text)
        table = table.set_column(nth, name, restored.cast(column.type))
    return table
