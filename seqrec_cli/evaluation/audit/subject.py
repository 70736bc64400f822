"""What is audited: a log, the view a protocol has of it, and whether its times are a clock.

Every pass goes over blocks of whole users, so that memory stays flat however long the log is.

Legend: N events, U users, R requests, T targets.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from seqrec_cli.data.blocks import user_blocks
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.splits import view_of
from seqrec_cli.data.view import HeldOut, Targets, View

BLOCK = 2**20  # events of a block of users, unless one user has more
UNITS = {"day": 86_400, "hour": 3_600, "minute": 60}
NEARLY_ALL = 0.999


@dataclass(frozen=True)
class Subject:
    """A log under a protocol; `split` is whose requests are asked about."""

    log: PackedLog
    split: HeldOut

    @cached_property
    def view(self) -> View:
        """What the protocol asks."""
        return view_of(self.log)

    @cached_property
    def targets(self) -> Targets:
        """The held-out requests."""
        return self.view.targets(self.split)

    @cached_property
    def target_items_T(self) -> np.ndarray:
        return np.asarray(self.log.items_N[self.targets.positions_T], np.int64)

    @cached_property
    def train_U(self) -> np.ndarray:
        """Where each user's training events end."""
        return np.asarray(self.view.train_U)

    @cached_property
    def training_events(self) -> int:
        return int((self.train_U - self.log.offsets_U1[:-1]).sum())

    @cached_property
    def counts_V(self) -> np.ndarray:
        """Every item's training events, int64 [V + 1]; row 0 has none."""
        counts_V = np.zeros(self.log.num_items + 1, np.int64)
        for block in self.blocks():
            counts_V += np.bincount(self.log.items_N[training_positions(self, block)], minlength=len(counts_V))
        return counts_V

    @cached_property
    def clock(self) -> "Clock":
        return Clock.of(self.log)

    @property
    def times_N(self) -> np.ndarray | None:
        """Times that are a clock: the same for every user."""
        return self.log.times_N if self.clock.kind == "real" else None

    def blocks(self, events: int = BLOCK) -> "Iterator[Block]":
        """The users in blocks of about so many events."""
        return blocks(self.log, events)


@dataclass(frozen=True)
class Block:
    """Users `first_row:last_row` and their events `start:end`."""

    first_row: int
    last_row: int
    start: int
    end: int
    rows_N: np.ndarray  # the user row of each event

    def training(self, subject: Subject) -> np.ndarray:
        """Which of the block's events train, [N]."""
        return np.arange(self.start, self.end) < subject.train_U[self.rows_N]


def blocks(log: PackedLog, events: int = BLOCK) -> Iterator[Block]:
    """The users of a log in blocks of about so many events, in order."""
    offsets_U1 = np.asarray(log.offsets_U1)
    for users, of_users in user_blocks(offsets_U1, events):
        rows_N = np.repeat(np.arange(users.start, users.stop), np.diff(offsets_U1[users.start : users.stop + 1]))
        yield Block(users.start, users.stop, of_users.start, of_users.stop, rows_N)


def training_positions(subject: Subject, block: Block) -> np.ndarray:
    """Log positions of a block's training events."""
    starts_U = np.asarray(subject.log.offsets_U1)[block.first_row : block.last_row]
    return ragged_ranges(starts_U, subject.train_U[block.first_row : block.last_row] - starts_U)


@dataclass(frozen=True)
class Clock:
    """What a log's times are.

    `none`: it has no times. `ranks`: they count a user's events (1, 2, 3, ...), so they say nothing between users.
    `real`: a common clock of `unit` (day, hour, minute, second); `outliers` times lie outside the range of the middle
    99.8 % by more than that range's length.
    """

    kind: str
    unit: str
    outliers: int

    @property
    def seconds(self) -> int:
        """How far apart two times are at least, where they differ."""
        return UNITS.get(self.unit, 1)

    @classmethod
    def of(cls, log: PackedLog) -> "Clock":
        if log.times_N is None or not len(log.times_N):
            return cls("none", "", 0)
        steps = pairs = users = from_the_start = 0
        whole = dict.fromkeys(UNITS, 0)
        first = int(log.times_N[0])
        for block in blocks(log):
            times_N = np.asarray(log.times_N[block.start : block.end])
            same = block.rows_N[1:] == block.rows_N[:-1]
            steps += int((np.diff(times_N)[same] == 1).sum())
            pairs += int(same.sum())
            begins_N = np.append(True, ~same) if len(times_N) else np.zeros(0, bool)
            users += int(begins_N.sum())
            from_the_start += int((begins_N & ((times_N == 0) | (times_N == 1))).sum())
            for unit, seconds in UNITS.items():
                whole[unit] += int(((times_N - first) % seconds == 0).sum())
        if steps >= NEARLY_ALL * pairs and from_the_start >= NEARLY_ALL * users:
            return cls("ranks", "", 0)
        events = len(log.times_N)
        unit = next((unit for unit in UNITS if whole[unit] >= NEARLY_ALL * events), "second")
        return cls("real", unit, _outliers(log))


def _outliers(log: PackedLog) -> int:
    assert log.times_N is not None
    stride = max(1, len(log.times_N) // 1_000_000)
    low, high = np.quantile(np.asarray(log.times_N[::stride]), [0.001, 0.999])
    span = max(high - low, 1)
    found = 0
    for block in blocks(log):
        times_N = np.asarray(log.times_N[block.start : block.end])
        found += int(((times_N < low - span) | (times_N > high + span)).sum())
    return found
