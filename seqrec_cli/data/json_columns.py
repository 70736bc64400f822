"""Columns of a file of JSON lines whose types are found in it; also of one array of objects.

A field is a number, text, true or false, or a list of these, of one kind in all lines; null and absent are the same.
"""

import io
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.columns import Column, Columns, resolve
from seqrec_cli.data.json_lines import read_lines

HEAD = 1000  # lines from which types are taken; all of them where these are not enough
WORDS = {pa.int64(): "a whole number", pa.float64(): "a number", pa.string(): "text", pa.bool_(): "true or false"}


def json_columns(data: bytes, label: str, columns: Sequence[Column]) -> Columns:
    """The wanted fields, by name. Raises SeqrecError, naming the line, for what is no object or of mixed kinds."""
    for column in columns:
        if isinstance(column, int):
            raise SeqrecError(f"{label}: fields of JSON have no position {column}; give names")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise SeqrecError(f"{label} is empty")
    if data.lstrip()[:1] == b"[":
        data = _array_as_lines(data, label)
    known = list(dict.fromkeys(key for _, row in itertools.islice(_rows(data, label), HEAD) for key in row))
    missing = [column for column in columns if column not in known]
    if missing:  # perhaps they come later
        known = list(dict.fromkeys(key for _, row in _rows(data, label) for key in row))
    found = {column: resolve(column, known, label) for column in columns}
    wanted = list(dict.fromkeys(found.values()))
    schema = _schema(itertools.islice(_rows(data, label), HEAD), wanted, label)
    try:
        table = _read(data, label, schema)
    except SeqrecError:
        whole = _schema(_rows(data, label), wanted, label)
        if whole == schema:
            raise
        table = _read(data, label, whole)
    return Columns(table, label, found, place=_place(data, table.num_rows), known=known)


def _read(data: bytes, label: str, schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([schema.empty_table(), *read_lines(io.BytesIO(data), label, schema)])


def _place(data: bytes, rows: int) -> Callable[[int], str]:
    """Where a row is; blank lines are none."""
    numbers: Sequence[int] = range(1, rows + 1)
    if data.count(b"\n") + (data[-1:] != b"\n") > rows:
        numbers = [number for number, line in enumerate(io.BytesIO(data), 1) if line.strip()]
    return lambda row: f"line {numbers[row]}"


def _array_as_lines(data: bytes, label: str) -> bytes:
    try:
        rows: Any = json.loads(data)
    except ValueError as error:
        raise SeqrecError(f"{label} is no JSON ({error}); is the file whole?") from None
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _rows(data: bytes, label: str) -> Iterable[tuple[int, dict[str, Any]]]:
    """The objects, and the number of each one's line."""
    for number, line in enumerate(io.BytesIO(data), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise SeqrecError(
                f"{label}: line {number} is no JSON ({error}); one object a line, or one array of them, is read"
            ) from None
        if not isinstance(row, dict):
            raise SeqrecError(f"{label}: line {number} is no JSON object")
        yield number, row


def _schema(rows: Iterable[tuple[int, dict[str, Any]]], wanted: Sequence[str], label: str) -> pa.Schema:
    """The type of each field; text where all its values are null."""
    types: dict[str, pa.DataType] = {}
    first: dict[str, int] = {}
    for number, row in rows:
        for name in wanted:
            value = row.get(name)
            kind = _type(value, f"{label}: {name} in line {number}")
            if kind is None or kind == types.get(name):
                continue
            known = types.get(name)
            merged = kind if known is None else _merged(known, kind)
            if merged is None:
                raise SeqrecError(
                    f"{label}: {name} is {_word(known)} in line {first[name]} and {_word(kind)} in line {number}; "
                    "make it one kind"
                )
            types[name], first[name] = merged, first.get(name, number)
    return pa.schema([(name, types.get(name, pa.string())) for name in wanted])


def _type(value: Any, where: str) -> pa.DataType | None:
    """None for null, and for what may be a list of anything."""
    if value is None:
        return None
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise SeqrecError(f"{where} is {value}, beyond 64 bits; write it as text")
        return pa.int64()
    if isinstance(value, float):
        return pa.float64()
    if isinstance(value, str):
        return pa.string()
    if isinstance(value, list):
        inner: pa.DataType | None = None
        for each in value:
            kind = _type(each, where)
            merged = kind if inner is None else inner if kind is None else _merged(inner, kind)
            if merged is None and kind is not None:
                raise SeqrecError(f"{where} is a list of {_word(inner)} and {_word(kind)}; make it one kind")
            inner = merged
        return pa.list_(inner) if inner is not None else pa.list_(pa.null())
    raise SeqrecError(f"{where} is an object; fields are numbers, text or lists of them")


def _merged(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(other):
        inner = _merged(one.value_type, other.value_type)
        return None if inner is None else pa.list_(inner)
    return None


def _word(kind: pa.DataType) -> str:
    return "a list" if pa.types.is_list(kind) else WORDS[kind]
