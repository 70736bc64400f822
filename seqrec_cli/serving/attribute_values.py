"""Attributes of items and users as a request tells them: names and texts, found again in the catalog.

A number (dataset.numeric_columns) is read as its group among up to ten equally large ones, so that it has values too.

Legend: R rows of a catalog (row 0 is padding or unknown), W values a row.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.numbers import number_of

Side = Literal["item", "user"]
Plain = str | int | float
Given = Mapping[str, Plain | Sequence[Plain]]  # by attribute: a value or several
GROUPS = 10  # of a number


@dataclass(frozen=True)
class Value:
    """A value (code from 1) of an attribute of items or users."""

    side: Side
    attribute: str
    code: int


class AttributeValues:
    """What the data know of their items, or of their users."""

    def __init__(self, log: PackedLog, side: Side) -> None:
        catalog, kind = log.catalog, f"{side}_attribute_values"
        self.side: Side = side
        self._codes: dict[str, np.ndarray] = dict(catalog.item_values if side == "item" else catalog.user_values)
        texts: dict[str, list[str]] = log.manifest[kind] if self._codes and kind in log.manifest else {}
        self._texts = {name: {text: code for code, text in enumerate(texts[name], 1)} for name in texts}
        self.numbers: dict[str, np.ndarray] = catalog.item_numbers if side == "item" else catalog.user_numbers
        self._edges: dict[str, np.ndarray] = {}
        for name, numbers_R in self.numbers.items():
            known_R = ~np.isnan(numbers_R)
            edges = np.unique(
                np.quantile(numbers_R[known_R], np.linspace(0, 1, GROUPS + 1)[1:-1]) if any(known_R) else []
            )
            self._edges[name] = edges
            groups_R = np.where(known_R, 1 + np.searchsorted(edges, np.nan_to_num(numbers_R), "right"), 0)
            self._codes[name] = groups_R[:, None].astype(np.int32)

    @property
    def names(self) -> list[str]:
        """Of the attributes, numbers last."""
        return [name for name in self._codes if name in self._texts or name in self._edges]

    def codes(self, name: str) -> np.ndarray:
        """The values of every row, int32 [R, W]; 0: none."""
        return self._codes[name]

    def size(self, name: str) -> int:
        """How many values there are, 0 (none) included."""
        return len(self._edges[name]) + 2 if name in self._edges else len(self._texts[name]) + 1

    def of_row(self, row: int) -> list[Value]:
        """What the catalog knows of an item or user (from 1)."""
        return [Value(self.side, name, int(code)) for name in self.names for code in self.codes(name)[row] if code]

    def read(self, given: Given, where: str) -> list[Value]:
        """The values told. Raises SeqrecError on an attribute or a value that the data do not have."""
        found = []
        for name, told in given.items():
            if name not in self.names:
                have = ", ".join(self.names) or "none"
                near = nearest(name, self.names)
                raise SeqrecError(
                    f"{where}.{name}: the data's {self.side}s have no such attribute{near} (have: {have})"
                )
            found += [Value(self.side, name, code) for code in self._read(name, told, f"{where}.{name}")]
        return found

    def numbers_told(self, given: Given, where: str) -> dict[str, float]:
        """The numbers among what is told, as numbers; NaN for one that is missing."""
        return {
            name: number_of(str(next(iter(_several(told)), "")), f"{where}.{name}")
            for name, told in given.items()
            if name in self._edges
        }

    def _read(self, name: str, told: Plain | Sequence[Plain], where: str) -> Iterator[int]:
        texts = [str(each) for each in _several(told)]
        if name in self._edges:
            if len(texts) > 1:
                raise SeqrecError(f"{where}: a number is one value, {len(texts)} are given")
            numbers = [number for number in (number_of(text, where) for text in texts) if not np.isnan(number)]
            yield from (1 + int(np.searchsorted(self._edges[name], number, "right")) for number in numbers)
            return
        known = self._texts[name]
        for text in dict.fromkeys(texts):
            if text not in known:
                some = ", ".join(list(known)[:3])
                raise SeqrecError(f"{where}={text}: no such value{nearest(text, known)} (values such as {some})")
            yield known[text]


def _several(told: Plain | Sequence[Plain]) -> Iterable[Plain]:
    return (told,) if isinstance(told, str | int | float) else told
