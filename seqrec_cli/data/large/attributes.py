"""Attributes of items and users from what an engine found of each in the rows, without a Python object an item.

Values repeat: each distinct text is split and looked up once, and items have its number.

Legend: V items or users of the raw log, W values of one, D distinct texts.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqrec_cli.data.arrow import codes_of, from_numpy, one_array, to_numpy
from seqrec_cli.data.attribute_tables import split_values
from seqrec_cli.data.catalog import Attribute
from seqrec_cli.data.numbers import numbers_of_texts
from seqrec_cli.data.raw import AttributeTable


class Described(NamedTuple):
    """What the log says of each item or user: the code of its text, -1 where it says nothing, int32 [V]; the values
    of each distinct text; and how many have rows that say another thing."""

    codes_V: np.ndarray
    values_D: list[tuple[str, ...]]
    differ: int

    @classmethod
    def of(cls, table: pa.Table, count: int, separator: str | None) -> "Described":
        """From `code`, `value` and `differs` of an engine."""
        coded = one_array(table["value"]).dictionary_encode()
        codes_V = np.full(count, -1, np.int32)
        codes_V[to_numpy(one_array(table["code"]))] = codes_of(coded)
        texts = coded.dictionary.to_pylist()
        differ = int(to_numpy(one_array(table["differs"]).cast(pa.uint8())).sum())
        return cls(codes_V, [split_values(text, separator) for text in texts], differ)

    @classmethod
    def of_table(cls, table: AttributeTable, vocabulary: pa.Array) -> "Described":
        """From a file beside the log, whose ids are all in the vocabulary."""
        known: dict[tuple[str, ...], int] = {}
        codes = [known.setdefault(values, len(known)) for values in table.values]
        codes_V = np.full(len(vocabulary), -1, np.int32)
        codes_V[to_numpy(pc.index_in(from_numpy(table.ids).cast(vocabulary.type), vocabulary))] = codes
        return cls(codes_V, list(known), 0)

    def note(self, kind: str, column: Any) -> list[str]:
        """That rows contradict each other."""
        return [f"{self.differ} {kind}s have rows with differing {column}; each takes its first row's"] * bool(
            self.differ
        )

    def texts(self) -> list[str]:
        """Every value that an item has."""
        return [text for values in self.values_D for text in values]


def category(name: str, found: Described, kept_V: np.ndarray) -> tuple[Attribute, np.ndarray, list[str]]:
    """As `vocabulary.encode_attribute`: the attribute of the kept ones (codes), its values and their texts."""
    codes_K = found.codes_V[kept_V]
    used = np.unique(codes_K[codes_K >= 0]).tolist()
    texts = sorted({text for code in used for text in found.values_D[code]})
    number = {text: nth for nth, text in enumerate(texts, 1)}
    width = max(1, max((len(found.values_D[code]) for code in used), default=1))
    values_DW = np.zeros((len(found.values_D) + 1, width), np.int32)  # the last is that of -1
    for code in used:
        words = found.values_D[code]
        values_DW[code, : len(words)] = [number[text] for text in words]
    values = np.zeros((len(kept_V) + 1, width), np.int32)
    values[1:] = values_DW[codes_K]
    return Attribute(name, len(texts) + 1, width), values, texts


def number(name: str, found: Described, kept_V: np.ndarray) -> np.ndarray:
    """As `numbers.encode_numbers`: float64 [kept + 1], NaN where there is none."""
    codes_K = found.codes_V[kept_V]
    used = np.unique(codes_K[codes_K >= 0]).tolist()
    numbers_D = np.full(len(found.values_D) + 1, np.nan)
    numbers_D[used] = numbers_of_texts(name, [found.values_D[code] for code in used])
    return np.concatenate([[np.nan], numbers_D[codes_K]])


def titles(found: Described, kept_V: np.ndarray) -> pa.Array:
    """The name of each kept item, empty where it has none."""
    texts = pa.array([" ".join(values) for values in found.values_D] + [""], pa.string())
    return texts.take(pa.array(np.where(found.codes_V < 0, len(found.values_D), found.codes_V)[kept_V]))


def owners(found: Described, kept_V: np.ndarray, users: pa.Array) -> np.ndarray:
    """The user index of each kept item's owner, int32 [kept + 1]; 0 where that is no user of the log."""
    firsts = pa.array([next(iter(values), "") for values in found.values_D] + [""], pa.string())
    place = pc.index_in(firsts, users.cast(pa.string())).fill_null(-1)
    return np.concatenate([[0], to_numpy(place)[found.codes_V[kept_V]] + 1]).astype(np.int32)
