"""Some columns of a file of JSON lines, read as a stream; also of "loose" lines, which are Python literals.

Loose lines ('a': u'b', None, ...) are made JSON first. Nothing in them is ever executed.
"""

import ast
import io
import json
import re
from collections.abc import Iterator, Set
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.json

from seqrec_cli.config.errors import SeqrecError

CHUNK = 16 << 20  # bytes parsed at once; a line may be longer
BLOCK = 4 << 20  # bytes a thread parses at once

# What can become JSON by exchanging quotes, and then one string that cannot: in double quotes, or with a backslash.
# What may repeat never begins like what follows it, so an unclosed quote is found in one pass. (Possessive repeats
# would say so, but match wrongly before Python 3.11.5.)
_PLAIN = r"""([^'"]*(?:'[^'"\\]*'[^'"]*)*)"""
_STRING = r"""("[^"\\]*(?:\\.[^"\\]*)*"|'[^'\\]*(?:\\.[^'\\]*)*')"""
_LOOSE = re.compile(_PLAIN + _STRING)
_WORDS = re.compile(r"\b(?:None|True|False)\b")


def read_lines(file: BinaryIO, label: str, schema: pa.Schema, *, ids: Set[str] | None = None) -> Iterator[pa.Table]:
    """Tables of the columns of `schema`, null where a line lacks one; other fields are not kept.

    A loose line that begins with a field of the schema's first name and a text not in `ids` may be left out unread.
    Raises SeqrecError, naming the line (from 1), where one is no JSON object (or Python literal) or of other types.
    """
    skip = None if ids is None else (re.compile(rf"\s*\{{'{schema.names[0]}': '([^'\\]*)'"), ids)
    first, loose = 1, False
    for data in _chunks(file):
        if first == 1:
            loose = bool(re.match(rb"\s*\{\s*u?'", data))
        lines = data.count(b"\n")
        yield _table(_to_json(data, label, first, skip=skip) if loose else data, label, schema, first=first)
        first += lines


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines, about CHUNK bytes at once."""
    rest: list[bytes] = []
    while data := file.read(CHUNK):
        end = data.rfind(b"\n") + 1
        if not end:
            rest.append(data)
            continue
        yield b"".join([*rest, data[:end]])
        rest = [data[end:]] if end < len(data) else []
    if rest:
        yield b"".join(rest)


def _table(data: bytes, label: str, schema: pa.Schema, *, first: int) -> pa.Table:
    parse = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    if not data.strip():
        return schema.empty_table()
    try:
        return pa.json.read_json(pa.BufferReader(data), pa.json.ReadOptions(block_size=BLOCK), parse)
    except pa.ArrowInvalid:
        pass
    try:  # a line may be longer than a block
        whole = pa.json.ReadOptions(block_size=len(data) + 1, use_threads=False)
        return pa.json.read_json(pa.BufferReader(data), whole, parse)
    except pa.ArrowInvalid as error:
        for number, line in enumerate(data.split(b"\n"), first):
            _check(line, label, number)
        raise SeqrecError(f"{label}: lines from {first} on are not as expected: {str(error).splitlines()[0]}") from None


def _check(line: bytes, label: str, number: int) -> None:
    try:
        value: Any = json.loads(line) if line.strip() else {}
    except ValueError as error:
        raise SeqrecError(f"{label}: line {number} is no JSON ({error}); is the file whole?") from None
    if not isinstance(value, dict):
        raise SeqrecError(f"{label}: line {number} is no JSON object; is it a file of this dataset?")


def _to_json(data: bytes, label: str, first: int, *, skip: tuple[re.Pattern[str], Set[str]] | None) -> bytes:
    out = io.StringIO()
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), first):
        found = None if skip is None else skip[0].match(line)
        if not line.strip() or (found and skip and found[1] not in skip[1]):
            out.write("\n")
            continue
        try:
            out.write(loose_to_json(line))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise SeqrecError(f"{label}: line {number} is no Python literal; is the file whole?") from None
        out.write("\n")
    return out.getvalue().encode()


def loose_to_json(line: str) -> str:
    """A line that is a Python literal, as JSON text. Raises ValueError or SyntaxError where it is none."""
    if _WORDS.search(line) or "u'" in line or 'u"' in line:
        # A word may be part of a text or a value, and only a parser knows which.
        return json.dumps(ast.literal_eval(line.strip()))
    if "\\" not in line and '"' not in line:
        return line.replace("'", '"')
    converted, end = [], 0
    while part := _LOOSE.match(line, end):
        end = part.end()
        text = part[2]
        if text[0] == "'" or "\\" in text:
            text = json.dumps(ast.literal_eval(text))
        converted += [part[1].replace("'", '"'), text]
    tail = line[end:]
    if '"' in tail or "\\" in tail:
        raise ValueError("a quote is not closed")
    return "".join([*converted, tail.replace("'", '"')])
