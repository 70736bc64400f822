"""Frames of pandas or polars as columns that the readers of files know, by way of Arrow.

A frame of either library with the same values becomes the same table, so the fingerprint of its data is the same.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.data.columns import Columns

LABEL = "frame"  # how messages call it


def is_frame(value: Any) -> bool:
    """Whether it is a table: a frame of pandas or polars (a lazy one too), or an Arrow table."""
    return hasattr(type(value), "columns")  # asked of its class: a lazy frame would begin to work


def names_of(frame: Any) -> list[str]:
    """The names of its columns."""
    return [str(name) for name in (frame.column_names if isinstance(frame, pa.Table) else collected(frame).columns)]


def collected(frame: Any) -> Any:
    """A lazy frame of polars worked out; any other as it is."""
    return frame.collect() if hasattr(frame, "collect") else frame


def columns_of(table: pa.Table) -> Columns:
    """The table as a file's columns."""
    return Columns(table, LABEL, {name: name for name in table.column_names})


def to_arrow(frame: Any, wanted: Sequence[str], label: str = LABEL) -> pa.Table:
    """Some columns of a frame, in few types: text, int64, float64, timestamps in microseconds, bool, lists of these.

    `label` is what messages call it.

    Raises SeqrecError for what is no frame, a column that is not there, and values of mixed kinds.
    """
    if not is_frame(frame):
        raise SeqrecError(f"{label}: a {type(frame).__name__} is no frame; give one of pandas or polars")
    frame = collected(frame)
    names = names_of(frame)
    for name in wanted:
        if not isinstance(name, str):
            raise SeqrecError(f"{label}: {name!r} is no column's name; give text")
        if names.count(name) != 1:
            what = f"has several columns '{name}'" if name in names else f"has no column '{name}'{nearest(name, names)}"
            raise SeqrecError(f"{label} {what} (have: {', '.join(names)})")
    wanted = list(dict.fromkeys(wanted))
    try:
        if isinstance(frame, pa.Table) or hasattr(frame, "to_arrow"):
            selected = frame.select(wanted)
            table = selected if isinstance(selected, pa.Table) else selected.to_arrow()
        else:
            table = pa.Table.from_pandas(frame[wanted], preserve_index=False)
        columns = [_plain(table.column(name), f"{label}: column {name}") for name in wanted]
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        said = str(error.args[-1]).removeprefix("Conversion failed for ").splitlines()[0]
        raise SeqrecError(
            f"{label}: values of mixed kinds or out of range ({said}); make each column all numbers or all text"
        ) from None
    return pa.table(dict(zip(wanted, columns, strict=True)))


def _plain(values: pa.ChunkedArray, what: str) -> pa.Array:
    kind = _plain_type(values.type)
    if kind is None:
        raise SeqrecError(f"{what} is of type {values.type}; take numbers, text, datetimes, categories or lists")
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    inner = kind.value_type if pa.types.is_list(kind) else kind
    values = values.cast(kind, safe=not pa.types.is_timestamp(inner))  # nanoseconds are cut
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _plain_type(kind: pa.DataType) -> pa.DataType | None:
    """The one type of its kind that is written; None where there is none."""
    types = pa.types
    if types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = _plain_type(kind.value_type)
        return None if inner is None or types.is_list(inner) else pa.list_(inner)
    if types.is_null(kind) or types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_integer(kind):
        return pa.int64()
    if types.is_floating(kind):
        return pa.float64()
    if types.is_date(kind):
        return pa.timestamp("us")
    if types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    return pa.bool_() if types.is_boolean(kind) else None
