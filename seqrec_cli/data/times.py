"""A column of times as whole ticks: in a unit that is said, or recognised by its range.

Between 1990 and tomorrow the numbers of seconds, milliseconds, microseconds and nanoseconds since 1970, and dates
written as 20190301, lie in ranges that do not touch, so a log says by itself what it counts in.

Legend: N rows.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.quoting import shell_override
from seqrec_cli.data import date_text
from seqrec_cli.data.arrow import to_numpy
from seqrec_cli.data.number_text import as_numbers
from seqrec_cli.data.time_column import ORDER, TICKS, WORDS, TimeColumn, day, ranges, shown
from seqrec_cli.data.time_faults import refuse_days_or_years, refuse_mixed, refuse_some_zones

Form = Annotated[str, Field(pattern="%", json_schema_extra={"words": "such as %d/%m/%Y, strptime's codes"})]
TimeUnit = Literal["auto", "s", "ms", "us", "ns", "iso", "yyyymmdd", "order"] | Form
MICROSECONDS = 1_000_000
OTHER = "; any other form can be told, as dataset.time_unit=%d-%b-%Y"
AN_ORDER = "times are an order alone (dataset.time_unit=order): no seconds, no sessions by pauses"
ANY = "a time: a number since 1970, a date as 20190301, 31/12/2019 or 12/31/2019, or ISO text: 2019-03-01 12:30:00"


class Times(NamedTuple):
    """`ticks_N` int64; `per_second` of them make a second, none (0) where they are an order alone. `said` is what was
    found, in words, and `what` the kind alone; `outside` whether some lie before 1990 or after tomorrow."""

    ticks_N: np.ndarray
    per_second: int
    said: str = ""
    outside: bool = False
    what: str = ""


def read_times(column: TimeColumn, unit: TimeUnit) -> Times:
    """The column in that unit. `auto` recognises it, and refuses what lies outside 1990 to tomorrow; any other unit is
    taken as said. Fractions of a second are kept. Raises SeqrecError, with the place of a value that is no time."""
    kind = column.values.type
    if not len(column.values):
        return Times(np.zeros(0, np.int64), 1)
    if column.values.null_count:
        empty_N = to_numpy(column.values.is_null().cast(pa.uint8()))
        place = column.place(int(np.argmax(empty_N)))
        raise SeqrecError(f"{column.label}: {place} has an empty {column.name}; remove the row")
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        return _without_a_date(column, unit)
    if unit == "order":
        return _order(column)
    if pa.types.is_temporal(kind):
        return _told(column, _stamps(column.values), "timestamps", unit=unit)
    if pa.types.is_boolean(kind) or not (pa.types.is_primitive(kind) or pa.types.is_string(kind)):
        column.refuse(f"is of type {kind}, which holds no times")
    if "%" in unit:
        return _of_dates(column, date_text.read_form(column, unit), unit=unit)
    if unit == "iso":
        times, what = _iso(column)
        return _told(column, times, what, unit=unit)
    whole_N = _whole(column.values)
    if unit == "yyyymmdd":
        if whole_N is None:
            _refuse_value(column, _date_number, "a date written as 20190301")
        return _told(column, _date_numbers(column, whole_N), WORDS[unit], unit=unit)
    if unit != "auto":
        return _told(column, _counted(column, whole_N, unit), WORDS[unit], unit=unit)
    if pa.types.is_string(kind) and whole_N is None and not _is_number(column.values):
        return _of_text(column)
    return _recognised(column, whole_N)


def _of_text(column: TimeColumn) -> Times:
    """ISO text, or dates in another order that fits all values."""
    if _iso_or_none(column.values) is None and (dates := date_text.recognised(column)) is not None:
        return _of_dates(column, dates, unit="auto")
    times, what = _iso(column, ANY)
    if pc.all(pc.equal(pc.utf8_length(column.values), 10)).as_py():
        what = "dates"
    return _told(column, times, what, unit="auto")


def _of_dates(column: TimeColumn, dates: date_text.Dates, *, unit: str) -> Times:
    """In seconds, where none has a fraction of one."""
    seconds_N, fractions_N = np.divmod(dates.microseconds_N, MICROSECONDS)
    times = Times(dates.microseconds_N, MICROSECONDS) if fractions_N.any() else Times(seconds_N, 1)
    return _told(column, times, f"dates of the form {dates.form}{dates.shown}", unit=unit, form=dates.form)


def _recognised(column: TimeColumn, whole_N: np.ndarray | None) -> Times:
    """Numbers in the unit that puts most of them between 1990 and tomorrow; SeqrecError where not all are."""
    numbers_N = _finite(column) if whole_N is None else whole_N
    inside = {unit: _inside(numbers_N, *bounds) for unit, bounds in ranges().items()}
    unit = max(inside, key=lambda each: int(inside[each].sum()))
    first, last = (shown(number) for number in (numbers_N.min(), numbers_N.max()))
    outside_N = ~inside[unit]
    if outside_N.all():
        found = f"{first} in every row" if first == last else f"numbers from {first} to {last}"
        refuse_days_or_years(column, numbers_N, found)
        column.refuse(
            f"holds {found}: no times from 1990 to tomorrow in s, ms, us, ns or YYYYMMDD; say what they are, "
            f"dataset.time_unit=s (or ms, us, ns) for a count since 1970, {ORDER} if they only give an order"
        )
    if outside_N.any():
        nth = int(np.argmax(outside_N))
        refuse_mixed(column, inside, unit)
        column.refuse(
            f"holds {WORDS[unit]}, but {int(outside_N.sum()):,} of {len(numbers_N):,} values lie outside 1990 to "
            f"tomorrow, the first in {column.place(nth)} ({shown(numbers_N[nth])}); mend or remove them, or set "
            f"dataset.time_unit={unit} to keep them"
        )
    if unit == "yyyymmdd":
        if whole_N is None:
            _refuse_value(column, _date_number, "a date written as 20190301")
        return _told(column, _date_numbers(column, whole_N), WORDS[unit], unit="auto")
    return _told(column, _counted(column, whole_N, unit), WORDS[unit], unit="auto")


def _inside(numbers_N: np.ndarray, low: int, high: int) -> np.ndarray:
    return (numbers_N >= low) & (numbers_N <= high)


def in_words(what: str, first: int, last: int, *, per_second: int) -> tuple[str, bool]:
    """What was read from the first to the last tick, and whether some lie before 1990 or after tomorrow."""
    low, high = (bound * per_second for bound in ranges()["s"])
    outside = first < low or last > high
    lasts = " to ".join(day(tick // per_second) for tick in (first, last))
    return f"times read as {what}: {lasts}" + ", not all between 1990 and tomorrow" * outside, outside


def _told(column: TimeColumn, times: Times, what: str, *, unit: str, form: str = "iso") -> Times:
    """With words for what was read. Raises SeqrecError where `auto` finds moments outside 1990 to tomorrow."""
    ticks_N, per_second = times.ticks_N, times.per_second
    first, last = int(ticks_N.min()), int(ticks_N.max())
    said, outside = in_words(what, first, last, per_second=per_second)
    if outside and unit == "auto":
        low, high = (bound * per_second for bound in ranges()["s"])
        lasts = " to ".join(day(tick // per_second) for tick in (first, last))
        nth = int(np.argmax((ticks_N < low) | (ticks_N > high)))
        column.refuse(
            f"({what}) goes from {lasts}, and times before 1990 or after tomorrow are refused unless the unit is said; "
            f"the first is in {column.place(nth)}; mend it, or set {shell_override('dataset.time_unit', form)}"
        )
    return Times(ticks_N, per_second, said, outside, what)


def _counted(column: TimeColumn, whole_N: np.ndarray | None, unit: str) -> Times:
    """Numbers since 1970; with fractions, in microseconds."""
    if whole_N is not None:
        return Times(whole_N, TICKS[unit])
    seconds_N = _finite(column) / TICKS[unit]
    if np.abs(seconds_N).max(initial=0) > np.iinfo(np.int64).max / MICROSECONDS:
        column.refuse("holds times beyond any calendar; see dataset.time_unit")
    return Times(np.rint(seconds_N * MICROSECONDS).astype(np.int64), MICROSECONDS)


def _order(column: TimeColumn) -> Times:
    """What only sorts: whole numbers and moments as they are, other numbers by their rank."""
    values = column.values
    whole_N = _whole(values)
    if whole_N is None and (pa.types.is_temporal(values.type) or not _is_number(values)):
        whole_N = _iso(column, "a number, or an ISO time")[0].ticks_N
    if whole_N is None:
        whole_N = np.unique(_finite(column), return_inverse=True)[1].astype(np.int64)
    return Times(whole_N, 0, AN_ORDER)


def _without_a_date(column: TimeColumn, unit: str) -> Times:
    kind = column.values.type
    if unit != "order":
        what = "elapsed times" if pa.types.is_duration(kind) else "times of day"
        column.refuse(f"is of type {kind}, {what} without a date; name a column with dates, or set {ORDER}")
    wide = kind if kind.bit_width == 64 else pa.time64("us")
    return _order(column._replace(values=column.values.cast(wide).cast(pa.int64())))


def _stamps(values: pa.Array) -> Times:
    """Dates and timestamps of Arrow in their own unit, to the last digit."""
    if pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("ms" if pa.types.is_date64(values.type) else "s"))
    return Times(to_numpy(values.cast(pa.int64())), TICKS[values.type.unit])


def _iso(column: TimeColumn, what: str = "an ISO time such as 2019-03-01 12:30:00") -> tuple[Times, str]:
    """And what they are, in words. A comma may stand before fractions of a second, as ISO 8601 has it."""
    times = _iso_or_none(column.values)
    if times is None and pa.types.is_string(column.values.type):
        times = _iso_or_none(pc.replace_substring_regex(column.values, r"(:\d\d),(\d+)", r"\1.\2"))
        if times is not None:
            return times, f"{WORDS['iso']} with a comma before fractions of a second"
    if times is None:
        refuse_some_zones(column)
        _refuse_value(column, datetime.fromisoformat, f"{what} (all with a zone, or none){OTHER}")
    return times, WORDS["iso"]


def _iso_or_none(values: pa.Array) -> Times | None:
    if pa.types.is_temporal(values.type):
        return _stamps(values)
    for unit in ("us", "ns"):
        for zone in (None, "UTC"):
            try:
                return _stamps(values.cast(pa.timestamp(unit, zone)))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                continue
    return None


def _date_numbers(column: TimeColumn, whole_N: np.ndarray) -> Times:
    """YYYYMMDD as seconds."""
    days, nth_N = np.unique(whole_N, return_inverse=True)
    seconds = np.zeros(len(days), np.int64)
    for nth, number in enumerate(days.tolist()):
        try:
            seconds[nth] = _date_number(number)
        except ValueError:
            row = int(np.argmax(whole_N == number))
            column.refuse(f"is {number} in {column.place(row)}, not a date written as 20190301")
    return Times(seconds[nth_N], 1)


def _date_number(value: Any) -> int:
    return int(datetime.strptime(str(value), "%Y%m%d").replace(tzinfo=UTC).timestamp())


def _whole(values: pa.Array) -> np.ndarray | None:
    """int64 where every value is a whole number."""
    try:
        if pa.types.is_temporal(values.type):
            return None
        return to_numpy(values.cast(pa.int64()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _is_number(values: pa.Array) -> bool:
    """Whether text looks like numbers rather than dates: its first value is one."""
    try:
        return math.isfinite(float(values[0].as_py()))
    except ValueError:
        return False


def _finite(column: TimeColumn) -> np.ndarray:
    numbers = as_numbers(column.values)
    if numbers is None:
        column.refuse(f"is of type {column.values.type}, not finite numbers")
    numbers_N = to_numpy(numbers)
    if not np.isfinite(numbers_N).all():
        nth = int(np.argmin(np.isfinite(numbers_N)))
        column.refuse(f"is {column.values[nth].as_py()!r} in {column.place(nth)}, not a finite number")
    return numbers_N


def _refuse_value(column: TimeColumn, read: Callable[[Any], Any], what: str) -> NoReturn:
    for nth, value in enumerate(column.values.to_pylist()):
        try:
            read(value)
        except (TypeError, ValueError):
            column.refuse(f"is {value!r} in {column.place(nth)}, not {what}")
    column.refuse(f"is of mixed kinds, not {what}")
