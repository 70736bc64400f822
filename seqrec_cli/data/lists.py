"""A sequence a row, made a row an event: lists of Parquet or JSON, or text of one field joined by a separator.

Legend: N rows, E events.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.arrow import from_numpy, to_numpy
from seqrec_cli.data.columns import Column, Columns

NUMBERS = r"^\s*(\[.*\]|-?\d+(\s*[ ,;|]\s*-?\d+){2,})\s*$"  # what is hardly one id


def is_list(values: pa.Array) -> bool:
    """Whether each value is a list."""
    kind = values.type
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


class Lists(NamedTuple):
    """Which column holds a row's items, what joins them where they are text, the columns that say one thing of a whole
    row (of its user), and those that may hold several values of one event (attributes)."""

    item: Column
    separator: str | None
    whole: Collection[Column]
    attributes: Collection[Column] = ()


def one_event_a_row(columns: Columns, lists: Lists) -> tuple[Columns, int, int]:
    """Where a row's item is a list: a row for each of its elements, with the element of the same place of each other
    column that holds lists, and what the row says once where it does not. The separator splits other columns too, where
    they hold it.

    Also told are how many rows were lists, and how many of these were empty.
    """
    item, separator, whole, _ = lists
    items = columns.array(item)
    if separator is not None and pa.types.is_string(items.type):
        items = _split(items, separator)
    elif not is_list(items):
        _refuse_lists(columns, lists)
        return _hinted(columns, item, items), 0, 0
    counts_N = _lengths(items)
    parents_E = np.repeat(np.arange(len(items)), counts_N)
    starts_N = np.cumsum(counts_N) - counts_N

    def change(column: Column, values: pa.Array) -> pa.Array:
        if column == item:
            return _elements(items)
        if column not in whole:
            if separator is not None and pa.types.is_string(values.type):
                values = _split_alike(columns, column, values, separator=separator, counts_N=counts_N)
            if is_list(values):
                _refuse_other_lengths(columns, column, _lengths(values), counts_N=counts_N, item=item)
                return _elements(values)
        return values.take(from_numpy(parents_E))

    def place(event: int) -> str:
        row = int(parents_E[event])
        return f"{columns.place(row)}, element {event - int(starts_N[row]) + 1}"

    return columns.mapped(change, place), len(items), int((counts_N == 0).sum())


def _refuse_lists(columns: Columns, lists: Lists) -> None:
    for column in columns.names:
        if column not in lists.attributes and is_list(columns.values(column)):
            raise SeqrecError(
                f"{columns.label}: {column} holds lists and {lists.item} does not; a row is one event, or all of a user"
            )


def _hinted(columns: Columns, item: Column, items: pa.Array) -> Columns:
    """The columns as they are; with a word where most items look like several."""
    first = items.slice(0, 1000)
    if not pa.types.is_string(first.type) or 2 * _several(first) <= len(first) - first.null_count:
        return columns
    shown = pc.filter(first, pc.match_substring_regex(first, NUMBERS))[0].as_py()
    note = (
        f"{item} is '{shown[:40]}' and the like, and each such text is taken as one item; if it is a list, name what "
        "joins it: dataset.sequence_separator=' '"
    )
    return columns.noted(note)


def _several(texts: pa.Array) -> int:
    return pc.sum(pc.match_substring_regex(texts, NUMBERS)).as_py() or 0


def _lengths(lists: pa.Array) -> np.ndarray:
    """How long each list is, int64 [N]; null is empty."""
    return to_numpy(pc.fill_null(pc.list_value_length(lists), 0).cast(pa.int64()))


def _elements(lists: pa.Array) -> pa.Array:
    found = pc.list_flatten(lists)
    return found.cast(found.type.value_type) if pa.types.is_dictionary(found.type) else found


def _split(texts: pa.Array, separator: str) -> pa.Array:
    """Lists of the texts between separators, without blanks, quotes and brackets around them."""
    texts = pc.utf8_trim(texts, " \t[]()")
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    blank = separator.isspace() and separator != "\t"
    split = pc.utf8_split_whitespace(texts) if blank else pc.split_pattern(texts, separator)
    return pa.ListArray.from_arrays(_offsets(split), pc.utf8_trim(split.flatten(), " \t'\""))


def _offsets(lists: pa.Array) -> pa.Array:
    lengths_N = _lengths(lists)
    return from_numpy(np.concatenate([[0], np.cumsum(lengths_N)]).astype(np.int32))


def _split_alike(
    columns: Columns, column: Column, texts: pa.Array, *, separator: str, counts_N: np.ndarray
) -> pa.Array:
    """Lists, where this column holds as many values a row as the items; the texts where it holds one a row."""
    lists = _split(texts, separator)
    lengths_N = _lengths(lists)
    one_text = len(np.unique(lengths_N)) <= 1 and not (lengths_N == counts_N).all()  # also a date with a blank in it
    return texts if one_text else lists


def _refuse_other_lengths(
    columns: Columns, column: Column, lengths_N: np.ndarray, *, counts_N: np.ndarray, item: Column
) -> None:
    differs_N = lengths_N != counts_N
    if differs_N.any():
        row = int(np.argmax(differs_N))
        raise SeqrecError(
            f"{columns.label}: {columns.place(row)} has {counts_N[row]:,} values of {item} and {lengths_N[row]:,} of "
            f"{column}; lists of one row are of one length"
        )
