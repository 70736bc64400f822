"""Times recognised by their range, and what is refused because nobody can tell what it counts."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.times import TICKS, TimeColumn, Times, TimeUnit, read_times

MARCH = 1_551_398_400  # 2019-03-01


def read(values: Any, unit: TimeUnit = "auto") -> Times:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return read_times(TimeColumn(array, "log.csv", "time", lambda row: f"line {row + 2}"), unit)


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
    ("values", "word", "per_second"),
    [
        ([MARCH, MARCH + 86_400], "seconds", 1),
        ([MARCH * 1000 + 1, MARCH * 1000], "milliseconds", 1000),
        ([MARCH * 10**6 + 1, MARCH * 10**6], "microseconds", 10**6),
        ([MARCH * 10**9 + 1, MARCH * 10**9], "nanoseconds", 10**9),
        ([20190301, 20200229], "dates as YYYYMMDD", 1),
        ([MARCH + 0.25, MARCH + 0.5], "seconds", 10**6),
        ([f"+{MARCH}.5", f"{MARCH}"], "seconds", 10**6),
    ],
)
def test_numbers_say_by_their_range_what_they_count(
    values: list[Any], word: str, per_second: int, as_text: bool
) -> None:
    found = read([str(value) for value in values] if as_text else values)
    assert found.said.startswith(f"times read as {word}: 2019-03-01 to 20")
    assert found.per_second == per_second
    assert (found.ticks_N // per_second).min() == MARCH
    assert len(set(found.ticks_N.tolist())) == 2  # what is finer than a second still orders


@pytest.mark.parametrize(
    ("values", "said", "second"),
    [
        (["2019-03-01", "2019-03-02"], "dates: 2019-03-01 to 2019-03-02", 86_400),
        (["2019-03-01 00:00:00", "2019-03-01T00:00:01.5"], "ISO 8601 text", 1),
        (["2019-03-01T01:00:00+01:00", "2019-03-01T00:00:02Z"], "ISO 8601 text", 2),
        (["2019-03-01T00:00:00.000000001", "2019-03-01T00:00:03"], "ISO 8601 text", 3),
    ],
)
def test_text_is_iso_or_dates(values: list[str], said: str, second: int) -> None:
    found = read(values)
    assert said in found.said
    assert (found.ticks_N // found.per_second - MARCH).tolist() == [0, second]
    assert read(values, "iso").ticks_N.tolist() == found.ticks_N.tolist()


@pytest.mark.parametrize("unit", list(TICKS))
def test_timestamps_of_parquet_keep_their_last_digit(unit: str) -> None:
    found = read(pa.array([MARCH * TICKS[unit] + 1, MARCH * TICKS[unit]], pa.timestamp(unit)))
    assert found.per_second == TICKS[unit]
    assert np.diff(found.ticks_N).tolist() == [-1]


def test_dates_of_parquet_are_read() -> None:
    for kind, number in ((pa.date32(), 17_956), (pa.date64(), 17_956 * 86_400_000)):
        found = read(pa.array([number], kind))
        assert (found.ticks_N // found.per_second).tolist() == [MARCH]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([1, 2, 3], r"numbers from 1 to 3: no times .* dataset\.time_unit=s .*, dataset\.time_unit=order if"),
        ([0, 0], r"holds 0 in every row"),
        ([MARCH, 0, MARCH], r"holds seconds, but 1 of 3 .* first in line 3 \(0\); .*dataset\.time_unit=s to keep"),
        ([MARCH, MARCH * 1000, MARCH], r"holds seconds, but 1 of 3 .* first in line 3 \(1551398400000\)"),
        (["2019-03-01", "1970-01-01"], r"1970-01-01 to 2019-03-01.*the first is in line 3.*time_unit=iso"),
        (["2019-03-01", "soon"], r"'soon' in line 3, not a time: a number since 1970"),
        ([20191301, 20190301], r"is 20191301 in line 2, not a date written as 20190301"),
        (["1551398400.5", "1_551_398_400"], r"is '1_551_398_400' in line 3, not a finite number"),
        ([MARCH, None], r"line 3 has an empty time"),
        ([True, False], "of type bool"),
        (pa.array([1], pa.time32("s")), r"time32\[s\], times of day without a date; .*dataset\.time_unit=order"),
        (pa.array([1], pa.duration("ms")), r"duration\[ms\], elapsed times without a date"),
    ],
)
def test_what_nobody_can_tell_is_refused_with_the_remedy(values: Any, complaint: str) -> None:
    with pytest.raises(SeqrecError, match=f"log.csv: time .*{complaint}|{complaint}"):
        read(values)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_unit_that_is_said_is_taken_with_a_note(unit: TimeUnit) -> None:
    found = read([5, 300], unit)
    assert (found.ticks_N.tolist(), found.per_second, found.outside) == ([5, 300], TICKS[unit], True)
    assert found.said.endswith("1970-01-01 to 1970-01-01, not all between 1990 and tomorrow")


@pytest.mark.parametrize(
    "values",
    [
        [1, 2],
        ["0.5", "1.5"],
        pa.array([1, 2], pa.time32("ms")),
        pa.array([1, 2], pa.time64("ns")),
        pa.array([1, 2], pa.duration("s")),
        ["2019-03-01", "2019-03-02"],
    ],
)
def test_an_order_sorts_and_has_no_seconds(values: Any) -> None:
    found = read(values, "order")
    assert found.per_second == 0
    assert found.ticks_N[0] < found.ticks_N[1]


def test_a_year_beyond_calendars_is_named_not_a_crash() -> None:
    assert "year 3168875820" in read([10**17], "s").said
