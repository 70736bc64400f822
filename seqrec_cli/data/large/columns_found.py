"""What batches of one column have in common: how its times are written, its decimal commas, its blanks.

A small log is judged as a whole column; here every batch is, and what they found is brought together.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.arrow import to_numpy
from seqrec_cli.data.columns import Column, Columns
from seqrec_cli.data.number_text import as_numbers
from seqrec_cli.data.time_column import ORDER, WORDS
from seqrec_cli.data.times import TimeUnit, in_words, read_times

ISO = WORDS["iso"]
ZONE = r":\d\d(\.\d+)? ?(Z|[+-]\d\d:?\d\d)$"
Key = tuple[str, int]  # the kind of a column's numbers, and how many of them make a second (0: they are no moments)


@dataclass
class TimesFound:
    """The times of all batches so far: what they are, in which ticks, from when to when."""

    what: str | None = None
    first: int = 0
    last: int = 0
    per_second: int = 1
    zones: set[bool] = field(default_factory=set)
    place: str = ""

    def add(self, columns: Columns, column: Column, unit: TimeUnit) -> tuple[pa.Array, int]:
        """The batch's ticks, and how many make a second. Raises SeqrecError where it is written otherwise than
        earlier ones."""
        values = columns.time_column(column)
        found = read_times(values, unit)
        ticks_N = found.ticks_N
        what = self._joined(found.what, columns, column)
        if pa.types.is_string(values.values.type) and found.what.startswith(ISO):
            self.zones |= set(pc.unique(pc.match_substring_regex(values.values, ZONE)).to_pylist())
            if len(self.zones) > 1:
                raise SeqrecError(
                    f"{columns.label}: {column} has a zone in some rows and none in others ({columns.place(0)} and "
                    f"{self.place}); write it in all, or none"
                )
        scale = max(self.per_second, found.per_second)
        first, last = (int(tick) * (scale // found.per_second) for tick in (ticks_N.min(), ticks_N.max()))
        if self.what is not None:
            first = min(first, self.first * (scale // self.per_second))
            last = max(last, self.last * (scale // self.per_second))
        self.what, self.first, self.last, self.per_second = what, first, last, scale
        self.place = columns.place(0)
        return pa.array(ticks_N), found.per_second

    def _joined(self, what: str, columns: Columns, column: Column) -> str:
        if self.what is None or what == self.what:
            return what
        if {what, self.what} <= {"dates", ISO} or (what.startswith(ISO) and self.what.startswith(ISO)):
            return max(what, self.what, key=len)
        if _form(what) == _form(self.what):
            return self.what  # whose example comes first
        raise SeqrecError(
            f"{columns.label}: {column} holds {what} from {columns.place(0)} on, and {self.what} before; bring all to "
            "one form"
        )

    def said(self) -> tuple[str, bool]:
        """In words, and whether some lie before 1990 or after tomorrow."""
        return in_words(str(self.what), self.first, self.last, per_second=self.per_second)


def _form(what: str) -> str:
    return what.partition(", as ")[0]


def order_values(columns: Columns, column: Column) -> tuple[pa.Array, Key]:
    """What only sorts: whole numbers, other numbers, or moments, as `read_times` takes them by `order`; numbers that
    are not whole as they are, for their rank is that among all rows."""
    values = columns.array(column)
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_floating(kind):
        try:
            return values.cast(pa.int64()), ("whole", 0)
        except pa.ArrowInvalid:
            numbers = as_numbers(values)
        numbers_N = np.array([np.nan]) if numbers is None else to_numpy(numbers.fill_null(np.nan))
        if np.isfinite(numbers_N).all():
            return pa.array(numbers_N + 0.0), ("number", 0)  # without -0.0
    found = pa.array(read_times(columns.time_column(column), "order").ticks_N)
    if pa.types.is_integer(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind):
        return found, ("whole", 0)
    return found, ("moment", read_times(columns.time_column(column), "iso").per_second)


def one_kind(kinds: set[Key], column: Column) -> None:
    """Raises SeqrecError where batches hold both moments and numbers."""
    if len({kind == "moment" for kind, _ in kinds}) > 1:
        raise SeqrecError(f"{column} holds numbers in some rows and moments in others; bring all to one kind ({ORDER})")


@dataclass
class Commas:
    """Whether numbers were written with decimal commas, and others with points."""

    read: bool = False
    points: bool = False

    def add(self, columns: Columns, column: Column, *, converted: bool) -> None:
        """Raises SeqrecError for both in one column."""
        values = columns.values(column)
        text = pa.types.is_string(values.type)
        self.points |= text and not converted and bool(pc.any(pc.match_substring(values, ".")).as_py())
        self.read |= converted
        if self.read and self.points:
            raise SeqrecError(
                f"{columns.label}: {column} has decimal commas in some rows and points in others; write a point in all"
            )
