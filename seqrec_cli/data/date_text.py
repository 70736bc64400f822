"""Dates as people and spreadsheets write them (01.03.2024, 3/1/2024 9:05 PM), by a form that is told or that fits all.

A form is one of `datetime.strptime`. Whether the day or the month comes first is decided by a value over 12 anywhere in
the column; where there is none nobody can tell, and the column is refused.

Legend: N rows, K distinct values.
"""

import re
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqrec_cli.config.quoting import shell_override
from seqrec_cli.data.arrow import codes_of
from seqrec_cli.data.time_column import TimeColumn

SETTING = "dataset.time_unit"
# With a group for each part. Years of two digits are left out: 01/02/03 has six meanings.
_SHAPE = re.compile(
    r"(?P<first>\d{4}|\d\d?)(?P<mark>[/.-])\d\d?(?P=mark)(?P<last>\d{4}|\d\d?)"
    r"((?P<gap>,? |T)\d\d?:\d\d(?P<seconds>:\d\d(?P<fraction>\.\d{1,6})?)?(?P<half> ?[AaPp][Mm])?)?"
)


class Dates(NamedTuple):
    """Microseconds since 1970, int64 [N]; their form, and by what it was found, in words."""

    microseconds_N: np.ndarray
    form: str
    shown: str = ""


def read_form(column: TimeColumn, form: str) -> Dates:
    """Text of that form. Raises SeqrecError at the first value that is none."""
    try:
        moments_N = _Text(column.values).by(form)
    except ValueError as error:  # pandas: a directive that there is not
        column.refuse(f"cannot be read by {SETTING}={form}: {error}")
    unfit_N = np.isnat(moments_N)
    if unfit_N.any():
        _refuse(column, unfit_N, f"not of the form {form} ({SETTING})")
    return Dates(moments_N.astype(np.int64), form)


def recognised(column: TimeColumn) -> Dates | None:
    """Text by the one form that fits all values; None where the first value is no such date.

    Raises SeqrecError where a value does not fit, or several forms fit all.
    """
    forms = _forms(str(column.values[0].as_py()))
    if not forms:
        return None
    text = _Text(column.values)
    read = {form: text.by(form) for form in forms}
    fits = [form for form, moments_N in read.items() if not np.isnat(moments_N).any()]
    if len(fits) == 1:
        others_N = [np.isnat(read[form]) for form in forms if form != fits[0]]
        shown = f", as {column.values[int(np.argmax(others_N[0]))].as_py()} shows" if others_N else ""
        return Dates(read[fits[0]].astype(np.int64), fits[0], shown)
    first = f"is {column.values[0].as_py()!r} in {column.place(0)}"
    if forms[0].startswith("%Y-"):
        return None  # ISO: what is wrong is told with that
    if fits:
        told = " or ".join(shell_override(SETTING, form) for form in fits)
        column.refuse(
            f"{first}, and no value of the column shows whether the day or the month comes first; say it, {told}"
        )
    none_N = np.all([np.isnat(moments_N) for moments_N in read.values()], axis=0)
    if none_N.any():
        _refuse(column, none_N, f"not a date as in {column.place(0)} ({column.values[0].as_py()!r})")
    rows = [int(np.argmin(np.isnat(read[form]) | ~np.isnat(read[other]))) for form, other in (forms, forms[::-1])]
    day, month = (f"{column.values[row].as_py()!r} in {column.place(row)}" for row in rows)
    column.refuse(f"has the day first ({day}) and the month first ({month}); bring all to one form, best YYYY-MM-DD")


def _refuse(column: TimeColumn, unfit_N: np.ndarray, what: str) -> None:
    nth = int(np.argmax(unfit_N))
    more = f"; {int(unfit_N.sum()):,} of {len(unfit_N):,} values are not" if unfit_N.sum() > 1 else ""
    column.refuse(f"is {column.values[nth].as_py()!r} in {column.place(nth)}, {what}{more}")


def _forms(text: str) -> tuple[str, ...]:
    """The forms that such a value may be of: the year stands first or last, a clock behind it."""
    found = _SHAPE.fullmatch(text)
    if found is None or (len(found["first"]) == 4) == (len(found["last"]) == 4):
        return ()
    dates = ("%Y-%m-%d",) if len(found["first"]) == 4 else ("%d-%m-%Y", "%m-%d-%Y")
    clock = ""
    if found["gap"]:
        clock = found["gap"] + ("%I:%M" if found["half"] else "%H:%M")
        clock += ":%S" * bool(found["seconds"]) + ".%f" * bool(found["fraction"])
        clock += found["half"][:-2] + "%p" if found["half"] else ""
    return tuple(date.replace("-", found["mark"]) + clock for date in dates)


class _Text:
    """A column's distinct values, parsed once each."""

    def __init__(self, values: pa.Array) -> None:
        coded = values.cast(pa.string()).dictionary_encode()
        self.codes_N = codes_of(coded)
        self.distinct_K = pc.utf8_trim_whitespace(coded.dictionary).to_pandas()

    def by(self, form: str) -> np.ndarray:
        """datetime64[us] [N], NaT where the text is not of the form."""
        import pandas as pd  # not needed by most logs

        found = pd.to_datetime(self.distinct_K, format=form, errors="coerce", utc=True)
        moments_K: np.ndarray = found.dt.tz_localize(None).to_numpy("datetime64[us]")
        return moments_K[self.codes_N]
