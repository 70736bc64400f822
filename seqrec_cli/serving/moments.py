"""Times that a request tells, in seconds since 1970."""

from collections.abc import Sequence

import numpy as np

from seqrec_cli.config.errors import SeqrecError

LATEST = 2**53  # seconds: more are a mistake, and no number of 64 bits adds them up


def moment_asked(asked_at: int | None, times: np.ndarray | None) -> int | None:
    """When an answer is for: as told, or at the latest event's time. Raises SeqrecError where that lies before it."""
    if asked_at is None:
        return None if times is None else int(times[-1])
    check_seconds("asked_at", [asked_at])
    if times is not None and asked_at < times[-1]:
        raise SeqrecError("asked_at lies before the latest event; leave later events out, or ask later")
    return asked_at


def check_seconds(name: str, values: Sequence[int]) -> None:
    """Raises SeqrecError on what is no time."""
    if any(abs(value) > LATEST for value in values):
        raise SeqrecError(f"{name}: not a time; give seconds since 1970")


def events_times(times: Sequence[int] | None, events: int) -> np.ndarray | None:
    """When each event of a history happened, int64, where that was told. Raises SeqrecError for times that are none,
    or not theirs."""
    if times is None:
        return None
    if len(times) != events:
        raise SeqrecError(f"times: {len(times)} for {events} events; give one an event")
    check_seconds("times", times)
    seconds = np.array(times, np.int64)
    if (np.diff(seconds) < 0).any():
        raise SeqrecError("times: the history is not in their order; give the latest event last")
    return seconds
