"""A column of times to be read, and the numbers that times of people's logs have in each unit."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, NoReturn

import pyarrow as pa

from seqrec_cli.config.errors import SeqrecError

TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}  # ticks of each unit in a second
FIRST = datetime(1990, 1, 1, tzinfo=UTC)
WORDS = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "iso": "ISO 8601 text",
    "yyyymmdd": "dates as YYYYMMDD",
}
ORDER = "dataset.time_unit=order"


class TimeColumn(NamedTuple):
    """Values to read, and how messages call them: the file, the column, and the place of a value (from 0)."""

    values: pa.Array
    label: str
    name: Any
    place: Callable[[int], str]

    def refuse(self, problem: str) -> NoReturn:
        raise SeqrecError(f"{self.label}: {self.name} {problem}")


def ranges() -> dict[str, tuple[int, int]]:
    """The numbers of 1990 and of the end of tomorrow in each unit."""
    end = datetime.now(UTC) + timedelta(days=2)
    found = {unit: (int(FIRST.timestamp()) * ticks, int(end.timestamp()) * ticks) for unit, ticks in TICKS.items()}
    return {**found, "yyyymmdd": (int(f"{FIRST:%Y%m%d}"), int(f"{end:%Y%m%d}"))}


def day(seconds: int) -> str:
    """The date of a moment (UTC), or its year where no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return f"year {1970 + seconds // 31_556_952}"


def shown(number: Any) -> str:
    return f"{int(number)}" if float(number).is_integer() else f"{float(number):g}"
