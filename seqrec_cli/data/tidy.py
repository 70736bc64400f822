"""One rule for what stands for nothing: empty fields and the words that other tools write for them; and for blanks.

Blanks around ids and categories are left out, and counted. A row without a user, an item or a time is refused, left
out or (where a word is an id after all) kept, by `dataset.missing`. Legend: N rows, K distinct values.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.arrow import codes_of, from_numpy, from_texts, mask_of, to_mask
from seqrec_cli.data.columns import Column, Columns
from seqrec_cli.data.number_text import with_points
from seqrec_cli.data.raw import MISSING_WORDS

Missing = Literal["error", "drop", "keep"]
EMPTY = "empty"
SHOWN = 5  # places of rows in a message


def tidied(
    columns: Columns,
    missing: Missing,
    *,
    ids: Sequence[Column],
    values: Sequence[Column],
    others: Sequence[Column] = (),
    numbers: Sequence[Column] = (),
) -> Columns:
    """Without blanks around the texts of `ids` and `others`, and without rows that lack one of `ids` and `values`, by
    that rule; decimal commas of `values` and `numbers` (some of `others`) are points. What was done is added to the
    notes. Raises SeqrecError where rows lack something and none may."""
    for column in dict.fromkeys([*ids, *others]):
        columns, blanks = without_blanks(columns, column)
        columns = columns.noted(*blanks.said(column))
    for column in dict.fromkeys([*values, *numbers]):
        columns = plain_numbers(columns, column)
    lacking_N = np.zeros(len(columns), bool)
    found: dict[Column, Counter[str]] = {}
    for column in dict.fromkeys([*ids, *values]):
        words = () if missing == "keep" and column in ids else MISSING_WORDS
        here_N, count = missing_rows(columns, column, words)
        if count:
            found[column] = count
            lacking_N |= here_N
    if not found:
        return columns
    told = "; ".join(f"{column}: {counts_said(count)}" for column, count in found.items())
    wanted = ", ".join(map(str, [*ids, *values]))
    lost = f"of {len(columns):,} rows, {int(lacking_N.sum()):,} without one of {wanted} ({told})"
    if missing != "drop":
        keep = any(set(count) - {EMPTY} for column, count in found.items() if column in ids)
        places = [columns.place(int(row)) for row in np.flatnonzero(lacking_N)[:SHOWN]]
        first = f"the first {'is' if len(places) == 1 else 'are'} {', '.join(places)}"
        raise SeqrecError(  # its parts are apart: where no setting can be given, only the first two are told
            f"{columns.label}: {lost}, {first}; remove these rows or mend them; or set dataset.missing=drop to leave "
            "them out" + ", or dataset.missing=keep if such words are ids here" * keep
        )
    if lacking_N.all():
        raise SeqrecError(f"{columns.label}: {lost}; dataset.missing=drop would leave none")
    return columns.where(~lacking_N).noted(f"{lost} left out: dataset.missing=drop")


def counts_said(count: Counter[str]) -> str:
    return ", ".join(f"{word if word == EMPTY else repr(word)} {number:,}" for word, number in count.most_common())


class Blanks(NamedTuple):
    """Values that had blanks around them, and how many of these are then another value of the column."""

    changed: Sequence[str]
    merged: int

    def said(self, column: Column) -> list[str]:
        """In words, for people."""
        note = f"{column}: blanks around {len(self.changed):,} distinct values left out"
        note += f", {self.merged:,} of which are then another value" * bool(self.merged)
        return [note] * bool(self.changed)


def without_blanks(columns: Columns, column: Column) -> tuple[Columns, Blanks]:
    """The columns, without blanks around the texts of one of them."""
    codes_N, distinct = columns.coded(column)
    if not pa.types.is_string(distinct.type):
        return columns, Blanks((), 0)
    plain = pc.utf8_trim_whitespace(distinct)
    if plain.equals(distinct):
        return columns, Blanks((), 0)
    changed = distinct.filter(pc.not_equal(plain, distinct)).to_pylist()
    again = plain.dictionary_encode()
    merged = len(distinct) - len(again.dictionary)
    recoded_N = np.append(codes_of(again), 0)[codes_N].astype(np.int32)
    codes = pc.if_else(to_mask(codes_N >= 0), from_numpy(recoded_N), pa.nulls(len(recoded_N), pa.int32()))
    columns = columns.replaced(column, pa.DictionaryArray.from_arrays(codes, again.dictionary))
    return columns, Blanks(changed, merged)


def plain_numbers(columns: Columns, column: Column) -> Columns:
    """Numbers and times as text, without blanks around them, which nobody means; with points for decimal commas."""
    values = columns.values(column)
    coded = pa.types.is_dictionary(values.type)
    texts = values.dictionary if coded else values
    if not pa.types.is_string(texts.type):
        return columns
    plain = texts if coded else pc.utf8_trim_whitespace(texts)
    points = with_points(plain)
    notes = [f"{column}: decimal commas read as points"] * (points is not None)
    plain = plain if points is None else points
    if plain.equals(texts):
        return columns
    plain = pa.DictionaryArray.from_arrays(values.indices, plain) if coded else plain
    return columns.replaced(column, plain).noted(*notes)


def missing_rows(columns: Columns, column: Column, words: Sequence[str]) -> tuple[np.ndarray, Counter[str]]:
    """Rows without a value, bool [N], and how often it is written how."""
    values = columns.values(column)
    coded = pa.types.is_dictionary(values.type)
    distinct = values.dictionary if coded else values
    found_N = mask_of(distinct.is_null(nan_is_null=True))
    if pa.types.is_string(distinct.type):
        plain = pc.utf8_trim_whitespace(distinct) if coded else distinct  # which has no blanks any more
        found_N |= mask_of(pc.is_in(plain, from_texts(["", *words])))
    if coded:  # -1, a row without a value, is the last of these
        found_N = np.append(found_N, True)[codes_of(values)]
    lacking = values.filter(to_mask(found_N)).to_pylist()
    return found_N, Counter((isinstance(text, str) and text.strip()) or EMPTY for text in lacking)
