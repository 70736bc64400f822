"""What `tidy.py` does of a small log, of batches: rows that lack something, blanks, decimal commas, counted over all.

Legend: N rows of a batch.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.arrow import from_texts, mask_of
from seqrec_cli.data.columns import Column, Columns
from seqrec_cli.data.large.columns_found import Commas
from seqrec_cli.data.lists import is_list
from seqrec_cli.data.raw import MISSING_WORDS
from seqrec_cli.data.tidy import EMPTY, SHOWN, Blanks, Missing, counts_said, missing_rows, plain_numbers, without_blanks


@dataclass
class Tidying:
    """The rule, and what was found by it so far. The columns are those that `tidied` is given."""

    missing: Missing
    ids: Sequence[Column]
    values: Sequence[Column]
    others: Sequence[Column]
    numbers: Sequence[Column]
    changed: dict[Column, set[str]] = field(default_factory=dict)  # values that had blanks around them
    commas: dict[Column, Commas] = field(default_factory=dict)
    rows: int = 0
    lost: int = 0
    lacking: dict[Column, Counter[str]] = field(default_factory=dict)

    def tidy(self, columns: Columns) -> tuple[Columns, np.ndarray, dict[Column, np.ndarray]]:
        """The rows that stay, which of the batch they are, and for columns with blanks where these were, bool [N].

        Raises SeqrecError where rows lack something and none may.
        """
        blank: dict[Column, np.ndarray] = {}
        for column in dict.fromkeys([*self.ids, *self.others]):
            if is_list(columns.values(column)):
                continue  # an attribute of several values
            before = columns
            columns, blanks = without_blanks(columns, column)
            if blanks.changed:
                self.changed.setdefault(column, set()).update(blanks.changed)
                blank[column] = mask_of(pc.is_in(before.array(column), from_texts(blanks.changed)))
        for column in dict.fromkeys([*self.values, *self.numbers]):
            before = columns
            columns = plain_numbers(columns, column)
            converted = len(columns.notes) > len(before.notes)
            self.commas.setdefault(column, Commas()).add(columns, column, converted=converted)
        lacking_N = self._lacking(columns)
        self.rows += len(columns)
        kept = np.flatnonzero(~lacking_N)
        if len(kept) == len(columns):
            return columns, kept, blank
        self.lost += len(columns) - len(kept)
        return columns.where(~lacking_N), kept, {column: mask_N[kept] for column, mask_N in blank.items()}

    def _lacking(self, columns: Columns) -> np.ndarray:
        lacking_N = np.zeros(len(columns), bool)
        found: dict[Column, Counter[str]] = {}
        for column in dict.fromkeys([*self.ids, *self.values]):
            words = () if self.missing == "keep" and column in self.ids else MISSING_WORDS
            if not self._may_lack(columns, column):
                continue
            here_N, count = missing_rows(columns, column, words)
            if count:
                found[column] = count
                lacking_N |= here_N
        if found and self.missing != "drop":
            told = "; ".join(f"{column}: {counts_said(count)}" for column, count in found.items())
            keep = any(set(count) - {EMPTY} for column, count in found.items() if column in self.ids)
            places = [columns.place(int(row)) for row in np.flatnonzero(lacking_N)[:SHOWN]]
            raise SeqrecError(
                f"{columns.label}: {int(lacking_N.sum()):,} rows without one of {self._wanted()} ({told}), the first "
                f"{'is' if len(places) == 1 else 'are'} {', '.join(places)}; remove these rows or mend them; or set "
                "dataset.missing=drop to leave them out" + ", or dataset.missing=keep if such words are ids here" * keep
            )
        for column, count in found.items():
            self.lacking.setdefault(column, Counter()).update(count)
        return lacking_N

    def _may_lack(self, columns: Columns, column: Column) -> bool:
        """Whole numbers without nulls lack nothing."""
        values = columns.values(column)
        return bool(values.null_count) or not pa.types.is_integer(values.type)

    def _wanted(self) -> str:
        return ", ".join(map(str, [*self.ids, *self.values]))

    def notes(self, merged: dict[Column, int], label: str) -> list[str]:
        """What was done, in words; `merged` of the changed values are then another value of their column."""
        found: list[str] = []
        for column in dict.fromkeys([*self.ids, *self.others]):
            if column in self.changed:
                found += Blanks(sorted(self.changed[column]), merged[column]).said(column)
        for column in dict.fromkeys([*self.values, *self.numbers]):
            found += [f"{column}: decimal commas read as points"] * self.commas[column].read
        if not self.lost:
            return found
        in_order = [column for column in dict.fromkeys([*self.ids, *self.values]) if column in self.lacking]
        told = "; ".join(f"{column}: {counts_said(self.lacking[column])}" for column in in_order)
        lost = f"of {self.rows:,} rows, {self.lost:,} without one of {self._wanted()} ({told})"
        if self.lost == self.rows:
            raise SeqrecError(f"{label}: {lost}; dataset.missing=drop would leave none")
        return [*found, f"{lost} left out: dataset.missing=drop"]
