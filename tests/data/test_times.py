"""Times recognised by their range, and what is refused because nobody can tell what it counts."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.time_column import TICKS, TimeColumn
from seqrec_cli.data.times import Times, TimeUnit, read_times

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
        ([MARCH, MARCH * 1000, -1], r"holds seconds, but 2 of 3 .* first in line 3 \(1551398400000\)"),
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


@pytest.mark.parametrize(
    ("values", "form", "last"),
    [
        (["2024/03/01", "2024/03/08"], "%Y/%m/%d", "2024-03-08"),
        (["2024-3-1", "2024-3-8"], "%Y-%m-%d", "2024-03-08"),
        (["1/3/2024", "13/3/2024"], "%d/%m/%Y, as 13/3/2024 shows", "2024-03-13"),
        (["01.03.2024 9:05", "14.03.2024 19:05"], "%d.%m.%Y %H:%M, as 14.03.2024 19:05 shows", "2024-03-14"),
        (["03/01/2024 1:05:00 PM", "03/13/2024 1:05:00 AM"], "%m/%d/%Y %I:%M:%S %p, as 03/13/2024", "2024-03-13"),
        (["01-03-2024T09:05:00.5", "31-03-2024T09:05:00.25"], "%d-%m-%YT%H:%M:%S.%f, as 31-03", "2024-03-31"),
    ],
)
def test_dates_of_spreadsheets_are_read_by_the_form_that_fits_all(values: list[str], form: str, last: str) -> None:
    found = read(values)
    assert found.said.startswith(f"times read as dates of the form {form}")
    assert found.said.endswith(f"2024-03-01 to {last}")
    assert found.ticks_N[0] < found.ticks_N[1]
    assert found.per_second == (10**6 if "." in values[0].partition(":")[2] else 1)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (["08/03/2024", "01/12/2024"], r"'08/03/2024' in line 2, and no value .* day or the month.*%d/%m/%Y.*%m/%d/%Y"),
        (
            ["13/01/2024", "01/13/2024"],
            r"day first \('13/01/2024' in line 2\) .*month first \('01/13/2024' in line 3\)",
        ),
        (["13/01/2024", "31/02/2024"], r"'31/02/2024' in line 3, not a date as in line 2 \('13/01/2024'\)"),
        (["13/01/2024", "13/01/2024 09:00"], r"'13/01/2024 09:00' in line 3, not a date as in line 2"),
        (["13/01/2024", "13/01/1924"], r"1924-01-13 to 2024-01-13.*line 3.*dataset\.time_unit=\"%d/%m/%Y\""),
        (
            ["14/11/23"],
            r"'14/11/23' in line 2, not a time: .*any other form can be told, as dataset\.time_unit=%d-%b-%Y",
        ),
    ],
)
def test_dates_that_may_mean_two_days_are_refused(values: list[str], complaint: str) -> None:
    with pytest.raises(SeqrecError, match=f"log.csv: time .*{complaint}"):
        read(values)


def test_a_form_that_is_told_is_taken() -> None:
    found = read(["14-Nov-2023", "1-Dec-1923"], "%d-%b-%Y")
    assert "dates of the form %d-%b-%Y: 1923-12-01 to 2023-11-14, not all between" in found.said
    day, month = (read(["08/03/2024"], form).ticks_N[0] for form in ("%d/%m/%Y", "%m/%d/%Y"))
    assert month - day == 148 * 86_400  # from the 8th of March to the 3rd of August
    with pytest.raises(SeqrecError, match=r"'soon' in line 3, not of the form %d-%b-%Y \(dataset\.time_unit\)"):
        read(["14-Nov-2023", "soon"], "%d-%b-%Y")
    with pytest.raises(SeqrecError, match=r"dataset\.time_unit=%Q: 'Q' is a bad directive"):
        read(["14-Nov-2023"], "%Q")


@pytest.mark.parametrize("unit", ["auto", "iso"])
def test_a_comma_before_fractions_of_a_second_is_iso_too(unit: TimeUnit) -> None:
    found = read(["2024-03-01 12:30:00,25", "2024-03-01 12:30:00,5"], unit)
    assert "ISO 8601 text with a comma before fractions of a second" in found.said
    assert np.diff(found.ticks_N).tolist() == [250_000]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([45_001, 45_040.5], r"numbers from 45001 to 45040\.5, a spreadsheet's count of days; .* \(yyyy-mm-dd\)"),
        ([1987, 2019], r"numbers from 1987 to 2019, which look like years; set dataset\.time_unit=%Y if"),
        (
            ["2024-03-01T10:00:00", "2024-03-01T10:00:00Z"],
            r"has a zone in some rows \('2024-03-01T10:00:00Z' in line 3",
        ),
    ],
)
def test_what_times_look_like_is_said(values: list[Any], complaint: str) -> None:
    with pytest.raises(SeqrecError, match=complaint):
        read(values)


def test_years_are_read_where_they_are_said_to_be() -> None:
    assert read([1970, 2019], "%Y").ticks_N.tolist() == [0, 1_546_300_800]


def test_mixed_units_are_counted_with_a_line_that_mends_them() -> None:
    column = pd.DataFrame({"time": [MARCH, MARCH * 1000 + 5, MARCH + 1]})
    with pytest.raises(SeqrecError, match=r"seconds in 2 rows and milliseconds in 1 \(the first in line 3, ") as error:
        read(pa.array(column["time"]))
    exec(str(error.value).partition("in pandas: ")[2], {"log": column})
    assert read(pa.array(column["time"])).ticks_N.tolist() == [MARCH, MARCH, MARCH + 1]
    with pytest.raises(SeqrecError, match=r"seconds in 1 rows and dates as YYYYMMDD in 1 .* to one unit in the file$"):
        read([MARCH, 20190301])
