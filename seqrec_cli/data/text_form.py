"""How a delimited text file is written: its encoding, its delimiter, its header; recognised where it is not told.

A delimiter may have several characters, or be `space`, any run of blanks. Arrow takes one character, so others become
a control character on the way (`Separator`).
"""

import codecs
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.file_kinds import looks_binary, not_text, utf16_without_mark

Header = bool | Literal["auto"]
AUTO = "auto"
BLANKS = "space"  # a run of blanks, as a delimiter
STAND_IN = "\x1f"  # the unit separator, for delimiters that are no single character
WORDS = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar", BLANKS: "space", "\x01": "control-A"}
_CANDIDATES = ("\t", "::", "\x01", "|", ";", ",", BLANKS)
_SAMPLED = 100  # rows that guesses are made from
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_VALUE = re.compile(
    r"[+-]?[\d.,]*\d[\d.,]*([eE][+-]?\d+)?|\d{4}[-/.]\d\d?[-/.]\d\d?([ T].*)?|\d\d?[-/.]\d\d?[-/.]\d{4}.*"
)
_HEADER_WORD = re.compile(
    r"(user|item|movie|film|product|goods|article|news|book|track|song|artist|video|game|business|recipe|session|"
    r"visitor|customer|client|account|member|reviewer|profile|query|event|action|behaviou?r|time|date|day|timestamp|"
    r"datetime|ts|unixtime|unixtimestamp|rating|stars|score|label|click|count|price|category|genre|title|name|brand|"
    r"sku|asin|isbn|uid|iid|sid|pid|id)(id|ids|name|no|num|key|code|hash|time|at|stamp|type)?",
    re.IGNORECASE,
)


class TextForm(NamedTuple):
    """What is told of a file, or found."""

    delimiter: str
    encoding: str
    header: Header
    quoted: bool
    names: tuple[str, ...] | None

    @classmethod
    def told(
        cls, delimiter: str, encoding: str, header: Header, *, quoted: bool, names: Sequence[str] | None
    ) -> "TextForm":
        """Of settings, whose names of columns are a list."""
        return cls(delimiter, encoding, header, quoted, None if names is None else tuple(names))

    def said(self) -> str:
        """In words, for people."""
        return f"{self.word()}-separated, {self.encoding.upper()}, {'with' if self.header else 'without'} a header"

    def word(self) -> str:
        """The delimiter, for people."""
        return WORDS.get(self.delimiter, f"'{self.delimiter}'")


class Separator:
    """A delimiter, and the one character that stands for it."""

    def __init__(self, delimiter: str) -> None:
        self.delimiter = delimiter
        self.is_itself = len(delimiter) == 1 and delimiter.isascii()
        self.character = delimiter if self.is_itself else STAND_IN
        self._bytes, self._stand_in = delimiter.encode(), STAND_IN.encode()

    def applied(self, lines: bytes) -> bytes:
        """Whole lines in UTF-8, with the character for the delimiter."""
        if self.is_itself:
            return lines
        if self.delimiter == BLANKS:
            inner = re.sub(rb"[ \t]+(?=[\r\n]|$)|(?<![^\r\n])[ \t]+", b"", lines)
            return re.sub(rb"[ \t]+", self._stand_in, inner)
        return lines.replace(self._bytes, self._stand_in)


class Head(NamedTuple):
    """The first rows of a file: their fields, and at which physical line (from 1) the first of them ends."""

    rows: list[list[str]]
    first_ends: int


def lines_of(text: str) -> list[str]:
    """Its lines with their ends, as csv counts them: `str.splitlines` knows more characters that end one."""
    return list(io.StringIO(text, newline=""))


def split_head(text: str, separator: Separator, *, quoted: bool) -> Head:
    """The fields of the first rows; blank lines are none."""
    lines = lines_of(separator.applied(text.encode()).decode())
    rows: list[list[str]] = []
    reader, ends = csv.reader(lines, **dialect(separator, quoted=quoted)), 0
    try:
        for row in itertools.islice(reader, 2 * _SAMPLED):
            if row and len(rows) < _SAMPLED:
                ends = ends or reader.line_num
                rows.append(row)
    except csv.Error:  # a field longer than any: a quote is not closed, which is told when all is read
        pass
    return Head(rows, ends)


def dialect(separator: Separator, *, quoted: bool) -> dict[str, Any]:
    """For Python's csv, which reads as Arrow does."""
    return {"delimiter": separator.character, "quoting": csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE}


def find_encoding(head: bytes, told: str, label: str) -> str:
    """The encoding, by a byte-order mark where there is one. Raises SeqrecError for what is no text."""
    found = not_text(head)
    if found is not None:
        what, remedy = found
        raise SeqrecError(f"{label} is {what}, not delimited text{'; ' if remedy else ''}{remedy}")
    if told != AUTO:
        return told
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if guess := utf16_without_mark(head):
        raise SeqrecError(f"{label} looks like UTF-16 without a byte-order mark; set dataset.encoding={guess}")
    if looks_binary(head):
        raise SeqrecError(f"{label} is a binary file, not delimited text (it holds NUL or control characters)")
    return "utf-8"


def find_delimiter(text: str, form: TextForm, columns: Sequence[int | str], *, label: str) -> str:
    """The delimiter that splits the first rows best: such that the wanted columns are there, then such that rows have
    as many fields as each other, then into most fields."""
    scores = []
    for rank, delimiter in enumerate(_CANDIDATES):
        rows = split_head(text, Separator(delimiter), quoted=form.quoted).rows
        if not rows:
            continue
        width, count = Counter(map(len, rows)).most_common(1)[0]
        if max(width, len(rows[0])) < 2:
            continue
        alike = count >= 0.9 * len(rows)
        has, even = _has(rows[0], width, form=form, columns=columns), len(rows[0]) == width
        score = (has, alike, even, delimiter != BLANKS, width, -rank)  # blanks stand around other delimiters too
        scores.append((score, delimiter))
    if not scores:
        first = next((line for line in text.splitlines() if line.strip()), "")
        if form.quoted and first.count('"') % 2:
            raise SeqrecError(f"{label}: a quote in its first line is never closed; see dataset.quoted")
        raise SeqrecError(
            f"{label}: no delimiter is found in its first lines ('{first[:60]}'); set dataset.delimiter "
            "(a character, several, tab or space)"
        )
    found = max(scores)[1]
    return 2 * found if _is_doubled(text, found, form=form, columns=columns) else found


def _is_doubled(text: str, delimiter: str, *, form: TextForm, columns: Sequence[int | str]) -> bool:
    """Whether nothing stands between every second pair of delimiters in any row, as in `user||item||time`."""
    if delimiter == BLANKS:
        return False
    rows = split_head(text, Separator(delimiter), quoted=form.quoted).rows
    if any(len(row) % 2 == 0 or any(row[1::2]) for row in rows):
        return False
    first = split_head(text, Separator(2 * delimiter), quoted=form.quoted).rows[0]
    return _has(first, len(first), form=form, columns=columns)


def _has(first: list[str], width: int, *, form: TextForm, columns: Sequence[int | str]) -> bool:
    """Whether such a file could have the wanted columns."""
    names = [name.strip() for name in first]
    if form.names is not None:
        return width == len(form.names)
    return all(column in names if isinstance(column, str) else column < width for column in columns)


def find_header(head: Head, form: TextForm, columns: Sequence[int | str], *, label: str) -> bool:
    """Whether the first row holds names. Raises SeqrecError where what is told of it cannot be."""
    first, rest = [name.strip() for name in head.rows[0]], head.rows[1:]
    delimiter_is_blank = form.delimiter in (BLANKS, "\t") and form.names is None
    by_name = [column for column in columns if isinstance(column, str)]
    known = form.names or first
    wanted = [known.index(c) if isinstance(c, str) else c for c in columns if not isinstance(c, str) or c in known]
    wanted = [place for place in wanted if place < len(first)]
    shown = ", ".join(first)[:80]
    if form.names is not None or form.header is False:
        if tuple(first) == form.names or _is_header(first, rest, wanted):
            remedy = "leave dataset.columns out" if form.names is not None else "set dataset.header=true"
            raise SeqrecError(f"{label}: the first line looks like column names ({shown}); {remedy}")
        if form.names is None and by_name:
            raise SeqrecError(
                f"{label}: without a header there is no column '{by_name[0]}'; give positions (the first is 0), or "
                f"names for all {len(first)}: dataset.columns=[user,item,...]"
            )
        return False
    if by_name and set(by_name) <= set(first):
        return True
    if by_name and any(set(by_name) <= {name.strip() for name in row} for row in rest):
        raise SeqrecError(
            f"{label}: the first line ({shown}) is not the one with the columns' names, which comes later; remove what "
            "stands above it"
        )
    if all(len(name) > 2 and name[0] == name[-1] == "'" for name in first):
        raise SeqrecError(f"{label}: its fields are in single quotes ({shown}); only double quotes are read as such")
    if form.header is not True and not by_name:
        return _is_header(first, rest, wanted)
    if _is_data(first, rest, range(len(first)) if by_name else wanted):
        raise SeqrecError(
            f"{label}: the first line looks like data ({shown}), not column names; for a file without them set "
            f"dataset.header=false and name its {len(first)} columns: dataset.columns=[user,item,...]"
            + "; lines of `user item item ...` or `user item`, in order, are dataset=sequences"
            * (delimiter_is_blank)
        )
    return True


def _is_data(first: list[str], rest: list[list[str]], places: Iterable[int]) -> bool:
    """Whether a number or date stands where all rows have one. (pandas calls nameless columns 0, 1, 2.)"""
    if first == [str(place) for place in range(len(first))]:
        return False
    return any(_VALUE.fullmatch(first[place]) and _all_values(rest, place, empty=True) for place in places)


def _is_header(first: list[str], rest: list[list[str]], places: Sequence[int]) -> bool:
    """Whether names stand where all rows have numbers or dates, or the words that headers are made of."""
    names = [first[place] for place in places]
    if not names or not all(names) or any(map(_VALUE.fullmatch, names)):
        return False
    words = all(_HEADER_WORD.fullmatch(re.sub(r"[\W_]", "", name)) for name in names)
    return words or any(_all_values(rest, place, empty=False) for place in places)


def _all_values(rows: list[list[str]], place: int, *, empty: bool) -> bool:
    values = [row[place].strip() for row in rows if place < len(row) and row[place].strip()]
    return all(map(_VALUE.fullmatch, values)) if values else empty
