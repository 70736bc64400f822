"""Columns of requests in one type each, whatever file or frame they come from.

`user` and context: text; `history`: lists of text; `times`: lists of int64 seconds; `asked_at`: int64 seconds. Ids are
compared as text, as everywhere that a request names them. Messages count rows from 0, as answers do.

Legend: R rows.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqrec_cli.config.errors import SeqrecError, first_line
from seqrec_cli.data.arrow import from_numpy, one_array, to_numpy
from seqrec_cli.data.lists import is_list

FIXED = ("user", "history", "times", "asked_at")
LISTS = ("history", "times")
SECONDS = ("times", "asked_at")


def plain_column(values: pa.ChunkedArray, name: str, separator: str, *, label: str, first: int) -> pa.Array:
    """A column of a chunk whose first row is `first`; `separator` joins lists that are text.

    Raises SeqrecError, naming the row, for values of no use.
    """
    array = one_array(values)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_null(array.type):
        inner = pa.int64() if name in SECONDS else pa.string()
        return array.cast(pa.list_(inner) if name in LISTS else inner)
    if name not in LISTS:
        return _cells(array, name, label=label, row_of=lambda place: first + place)
    if _is_text(array.type):
        array = _split(array.cast(pa.string()), separator)
    elif not is_list(array):
        raise SeqrecError(f"{label}: the column {name} is of type {array.type}; give lists, or text with a separator")
    ends_R = np.cumsum(to_numpy(pc.fill_null(pc.list_value_length(array), 0).cast(pa.int64())))
    cells = _cells(
        array.flatten(),
        name,
        label=label,
        row_of=lambda element: first + int(np.searchsorted(ends_R, element, side="right")),
    )
    return pa.ListArray.from_arrays(_offsets(ends_R), cells, mask=array.is_null())


def _offsets(ends_R: np.ndarray) -> pa.Array:
    return from_numpy(np.concatenate([[0], ends_R]).astype(np.int32))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _cells(array: pa.Array, name: str, *, label: str, row_of: Callable[[int], int]) -> pa.Array:
    """Ids and context as text, moments as whole seconds; `row_of` a cell's place is what messages name."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        array, kind = array.cast(kind.value_type), kind.value_type
    if name in SECONDS:
        return _seconds(array, name, label=label, row_of=row_of)
    if pa.types.is_floating(kind) and name in FIXED:  # as pandas has whole numbers of which some are missing
        broken = pc.index(pc.fill_null(pc.equal(array, pc.floor(array)), True), False).as_py()
        if broken >= 0:
            value = array[broken].as_py()
            raise SeqrecError(f"{label}: row {row_of(broken)}: {name}: {value} is no id; give text or whole numbers")
        array = array.cast(pa.int64())
    elif _is_text(kind) and name == "user":
        array = _without_fraction(array.cast(pa.string()))
    elif name in FIXED and not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise SeqrecError(f"{label}: the column {name} holds {kind}; give text or whole numbers")
    return array.cast(pa.string())


def _seconds(array: pa.Array, name: str, *, label: str, row_of: Callable[[int], int]) -> pa.Array:
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return array.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
    if _is_text(kind):
        array = _without_fraction(pc.utf8_trim_whitespace(array.cast(pa.string())))
    try:
        return array.cast(pa.int64())
    except pa.ArrowException as error:
        row = row_of(_first_that_fails(array))
        raise SeqrecError(f"{label}: row {row}: {name}: not whole seconds since 1970 ({first_line(error)})") from None


def _without_fraction(texts: pa.Array) -> pa.Array:
    """`3.0` is 3: so pandas writes whole numbers of which some are missing."""
    return pc.replace_substring_regex(texts, r"^(-?[0-9]+)\.0$", r"\1")


def _first_that_fails(array: pa.Array) -> int:
    """Where a value is that is no whole number; a half is looked at at a time."""
    first, count = 0, len(array)
    while count > 1:
        half = count // 2
        try:
            array.slice(first, half).cast(pa.int64())
            first, count = first + half, count - half
        except pa.ArrowException:
            count = half
    return first


def _split(texts: pa.Array, separator: str) -> pa.Array:
    """Lists of the texts between separators, without blanks, quotes and brackets; an empty text is an empty list."""
    trimmed = pc.utf8_trim(texts, " \t[]()\"'")
    blank = separator.isspace() and separator != "\t"
    split = pc.utf8_split_whitespace(trimmed) if blank else pc.split_pattern(trimmed, separator)
    full = pc.fill_null(pc.not_equal(trimmed, ""), False)
    lengths_R = to_numpy(pc.if_else(full, pc.fill_null(pc.list_value_length(split), 0), 0).cast(pa.int64()))
    elements = pc.utf8_trim(pc.filter(split, full).flatten(), " \t'\"," if blank else " \t'\"")
    return pa.ListArray.from_arrays(_offsets(np.cumsum(lengths_R)), elements, mask=texts.is_null())
