"""The parts that protocols are made of: held-out spans of each user's events, and the targets chosen in them.

Legend: U users, N events, R requests, T targets. All positions are absolute positions in the log.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.view import HeldOut, LabelledRows, Targets

Choice = Literal["last", "first", "random", "successive", "all"]


@dataclass(frozen=True)
class Split:
    """What a protocol decides. `clicks` where it has labelled rows of its own; None: drawn beside the targets.

    `cut_times` are said in the manifest where a split is made at a moment (seconds), `notes` to the user.
    """

    train_U: np.ndarray
    val: Targets
    test: Targets
    clicks: dict[str, LabelledRows] | None = None
    cut_times: dict[HeldOut, int] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spans:
    """Each user's held-out events: positions `starts_U` to `ends_U` - 1, none where the two are equal."""

    starts_U: np.ndarray
    ends_U: np.ndarray


def choose(spans: Spans, offsets_U1: np.ndarray, choice: Choice, *, rng: np.random.Generator) -> Targets:
    """Targets in the spans (Time to Split, arXiv 2507.16289, section 3.3).

    One event of each span, its last, first or a random one, after all events before it; `successive`: every event of
    it, each after all before it; `all`: the events of the span as one request's targets, after what precedes the span.
    A request without a history is none.
    """
    starts_U, ends_U = spans.starts_U, spans.ends_U
    firsts_U = np.asarray(offsets_U1)[:-1]
    if choice == "all":
        rows_R = np.flatnonzero((ends_U > starts_U) & (starts_U > firsts_U))
        counts_R = (ends_U - starts_U)[rows_R]
        positions_T = ragged_ranges(starts_U[rows_R], counts_R)
        return Targets(rows_R, starts_U[rows_R], positions_T, np.concatenate([[0], np.cumsum(counts_R)]))
    if choice == "successive":
        starts_U = np.maximum(starts_U, firsts_U + 1)
        counts_U = np.maximum(ends_U - starts_U, 0)
        return Targets.next_events(np.repeat(np.arange(len(starts_U)), counts_U), ragged_ranges(starts_U, counts_U))
    if choice == "random":  # of those with a history
        starts_U = np.maximum(starts_U, firsts_U + 1)
    rows_R = np.flatnonzero(ends_U > starts_U)
    if choice == "last":
        positions_R = ends_U[rows_R] - 1
    elif choice == "first":
        positions_R = starts_U[rows_R]
    else:
        positions_R = rng.integers(starts_U[rows_R], ends_U[rows_R])
    has_history_R = positions_R > firsts_U[rows_R]
    return Targets.next_events(rows_R[has_history_R], positions_R[has_history_R])


def draw_users(among: np.ndarray, *, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint draws (ascending) of a share of these user rows: those that validate, and those that test."""
    count = max(1, round(share * len(among)))
    drawn = np.random.default_rng([seed, 7]).permutation(among)
    return np.sort(drawn[:count]), np.sort(drawn[count : 2 * count])


def times_of(log: PackedLog, protocol: str) -> np.ndarray:
    """The log's times; SeqrecError where it has none."""
    if log.times_N is None:
        raise SeqrecError(
            f"protocol={protocol} splits by time, and {log.without_times}; use protocol=leave_last, last_k, ratio or "
            "new_users"
        )
    return np.asarray(log.times_N)


def positions_from(log: PackedLog, times_N: np.ndarray, moment: int) -> np.ndarray:
    """For each user the position of the first event at `moment` or later (the user's end, if there is none), [U]."""
    before_N1 = np.concatenate([[0], np.cumsum(times_N < moment)])
    offsets_U1 = np.asarray(log.offsets_U1)
    return offsets_U1[:-1] + before_N1[offsets_U1[1:]] - before_N1[offsets_U1[:-1]]
