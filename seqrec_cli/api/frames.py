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


def to_arrow(frame: Any, wanted: Sequence[str]) -> pa.Table:
    """Some columns of a frame, in few types: text, int64, float64, timestamps in microseconds, bool.

    Raises SeqrecError for what is no frame, a column that is not there, and values of mixed kinds.
    """
    if not is_frame(frame):
        raise SeqrecError(f"{LABEL}: a {type(frame).__name__} is no frame; give one of pandas or polars")
    frame = collected(frame)
    names = names_of(frame)
    for name in wanted:
        if not isinstance(name, str):
            raise SeqrecError(f"{LABEL}: {name!r} is no column's name; give text")
        if names.count(name) != 1:
            what = f"has several columns '{name}'" if name in names else f"has no column '{name}'{nearest(name, names)}"
            raise SeqrecError(f"{LABEL} {what} (have: {', '.join(names)})")
    wanted = list(dict.fromkeys(wanted))
    try:
        if isinstance(frame, pa.Table) or hasattr(frame, "to_arrow"):
            selected = frame.select(wanted)
            table = selected if isinstance(selected, pa.Table) else selected.to_arrow()
        else:
            table = pa.Table.from_pandas(frame[wanted], preserve_index=False)
        columns = [_plain(table.column(name), name) for name in wanted]
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        said = str(error.args[-1]).removeprefix("Conversion failed for ").splitlines()[0]
        raise SeqrecError(
            f"{LABEL}: values of mixed kinds or out of range ({said}); make each column all numbers or all text"
        ) from None
    return pa.table(dict(zip(wanted, columns, strict=True)))


def _plain(values: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.cast(kind.value_type), kind.value_type
    if pa.types.is_null(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        values = values.cast(pa.string())
    elif pa.types.is_integer(kind):
        values = values.cast(pa.int64())
    elif pa.types.is_floating(kind):
        values = values.cast(pa.float64())
    elif pa.types.is_date(kind):
        values = values.cast(pa.timestamp("us"))
    elif pa.types.is_timestamp(kind):
        values = values.cast(pa.timestamp("us", kind.tz), safe=False)
    elif not (pa.types.is_string(kind) or pa.types.is_boolean(kind)):
        raise SeqrecError(f"{LABEL}: column {name} is of type {kind}; take numbers, text, datetimes or categories")
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
