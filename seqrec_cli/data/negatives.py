"""Negatives: items a user has not seen, uniform or by popularity, drawn for many rows at once.

Legend: U users, N events, R rows, K negatives a row. Rows index users from 0, items count from 1.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.blocks import user_blocks
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.splits import train_ends, view_of

ROUNDS = 16  # rejections before the few rows left are drawn from their exact complement
LARGE = 1 << 25  # events of a log from which its keys (8 bytes each, and as much to sort them) are not kept in memory
PIECE = 1 << 18  # draws that are looked up at once


@dataclass(frozen=True)
class SeenItems:
    """Which items each user has seen: one sorted array of `row * (V + 1) + item`, looked up by bisection."""

    keys_N: np.ndarray
    num_items: int

    @classmethod
    def of(
        cls, offsets_U1: np.ndarray, items_N: np.ndarray, num_items: int, *, ends_U: np.ndarray | None = None
    ) -> "SeenItems":
        """Within the whole history, or before the absolute log position `ends_U[row]`."""
        if len(items_N) > LARGE:
            return SeenInLog(np.zeros(0, np.int64), num_items, offsets_U1, items_N, ends_U)
        lengths_U = np.diff(offsets_U1)
        keys_N = np.repeat(np.arange(len(lengths_U)), lengths_U) * np.int64(num_items + 1) + items_N
        if ends_U is not None:
            keys_N = keys_N[np.arange(len(items_N)) < np.repeat(ends_U, lengths_U)]
        keys_N.sort()  # np.unique hashes, which takes ten times as long
        return cls(keys_N[np.diff(keys_N, prepend=-1) > 0], num_items)

    @classmethod
    def none(cls, num_items: int) -> Self:
        """Nobody has seen anything: every item may be drawn."""
        return cls(np.zeros(0, np.int64), num_items)

    @classmethod
    def in_training(cls, log: PackedLog) -> "SeenItems":
        """What training draws leave out: users' training events, or nothing where the protocol keeps seen items."""
        if view_of(log).seen == "keep":
            return cls.none(log.num_items)
        return cls.of(log.offsets_U1, log.items_N, log.num_items, ends_U=train_ends(log))

    @property
    def is_nothing(self) -> bool:
        """Whether nobody has seen anything."""
        return not len(self.keys_N)

    def counts(self, num_users: int) -> np.ndarray:
        """How many different items each user has seen, int64 [U]."""
        return np.bincount(self.keys_N // (self.num_items + 1), minlength=num_users)

    def _keys_of(self, rows_R: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """The sorted keys of these users, and perhaps of some between them."""
        first, end = np.searchsorted(self.keys_N, (wanted.min(), wanted.max() + 1))
        return self.keys_N[first : max(end, first + 1)]

    def contains(self, rows_R: np.ndarray, items_R: np.ndarray) -> np.ndarray:
        """True where the row's user has seen the item."""
        if self.is_nothing:
            return np.zeros(items_R.shape, bool)
        wanted = rows_R * np.int64(self.num_items + 1) + items_R
        if not wanted.size:
            return np.zeros(wanted.shape, bool)
        keys = self._keys_of(rows_R, wanted)
        if not len(keys):
            return np.zeros(wanted.shape, bool)
        found: np.ndarray = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted
        return found

    def refuse_all_seen(self, num_users: int) -> None:
        """Raises SeqrecError when every user has seen every item: all labels drawn for training would be positive."""
        if num_users and (self.counts(num_users) >= self.num_items).all():
            raise SeqrecError(
                "all training labels would be positive: every user has seen every item, so no negative can be drawn; "
                "use objective=next_item, or data with more items"
            )

    def unseen(self, row: int) -> np.ndarray:
        """All items the user has not seen."""
        every = np.arange(1, self.num_items + 1)
        return every[~self.contains(np.full(len(every), row), every)]


@dataclass(frozen=True)
class SeenInLog(SeenItems):
    """The same of a log whose keys would take much memory: looked up in the histories themselves, where they lie."""

    offsets_U1: np.ndarray
    items_N: np.ndarray
    ends_U: np.ndarray | None

    @property
    def is_nothing(self) -> bool:
        return not len(self.items_N)

    def counts(self, num_users: int) -> np.ndarray:
        counts_U = np.zeros(num_users, np.int64)
        for users, _ in user_blocks(self.offsets_U1):
            keys = self._keys(np.arange(users.start, users.stop))
            counts_U[users] = np.bincount(
                keys // (self.num_items + 1) - users.start, minlength=users.stop - users.start
            )
        return counts_U

    def refuse_all_seen(self, num_users: int) -> None:
        if (np.diff(self.offsets_U1) >= self.num_items).all():  # else somebody has not, without a closer look
            super().refuse_all_seen(num_users)

    def _keys_of(self, rows_R: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        return self._keys(np.unique(rows_R))

    def _keys(self, users: np.ndarray) -> np.ndarray:
        """Of ascending users, each key once, ascending."""
        starts = np.asarray(self.offsets_U1)[users]
        ends = np.asarray(self.offsets_U1)[users + 1] if self.ends_U is None else np.asarray(self.ends_U)[users]
        items = np.asarray(self.items_N[ragged_ranges(starts, ends - starts)])
        keys = np.repeat(users, ends - starts) * np.int64(self.num_items + 1) + items
        keys.sort()
        return keys[np.diff(keys, prepend=-1) > 0]


def draw_unseen(
    rows_R: np.ndarray,
    count: int,
    seen: SeenItems,
    *,
    rng: np.random.Generator,
    pool_N: np.ndarray | None = None,
    avoid_RM: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Unseen items, int64 [R, count] (or in `out`), with replacement; 0 where the user has seen every item.

    Uniform, or as often as they occur in `pool_N`. Where nothing counts as seen, what a row avoids, its targets, is not
    drawn; where seen items are left out, the targets are among them.
    """
    if not seen.is_nothing:
        avoid_RM = None

    def refused(rows: np.ndarray, nth: np.ndarray, items: np.ndarray) -> np.ndarray:
        no: np.ndarray = seen.contains(rows, items)
        if avoid_RM is not None:
            no |= (avoid_RM[nth] == items[..., None]).any(axis=-1)
        return no

    def draw(shape: int | tuple[int, int]) -> np.ndarray:
        if pool_N is None:
            return rng.integers(1, seen.num_items + 1, shape)
        return np.asarray(pool_N)[rng.integers(0, len(pool_N), shape)].astype(np.int64)

    rows_R = np.asarray(rows_R, np.int64)
    items_RK = np.empty((len(rows_R), count), np.int64) if out is None else out
    found = []
    step = max(1, PIECE // max(count, 1))
    for first in range(0, len(rows_R), step):  # drawn a piece at a time, they are the same numbers
        last = min(first + step, len(rows_R))
        items_PK = items_RK[first:last] = draw((last - first, count))
        rows_PK, nth_PK = (
            np.broadcast_to(column_P[:, None], items_PK.shape)
            for column_P in (rows_R[first:last], np.arange(first, last))
        )
        nth, column = np.nonzero(refused(rows_PK, nth_PK, items_PK))
        found.append((nth + first, column))
    bad = tuple(np.concatenate(parts) for parts in zip(*found, strict=True)) if found else (np.zeros(0, np.int64),) * 2
    for _ in range(ROUNDS):
        if not len(bad[0]):
            return items_RK
        items_RK[bad] = draw(len(bad[0]))
        still = refused(rows_R[bad[0]], bad[0], items_RK[bad])
        bad = (bad[0][still], bad[1][still])
    weights_V = None if pool_N is None else np.bincount(pool_N, minlength=seen.num_items + 1).astype(np.float64)
    for row in np.unique(bad[0]):
        columns = bad[1][bad[0] == row]
        unseen = seen.unseen(int(rows_R[row]))
        if avoid_RM is not None:
            unseen = np.setdiff1d(unseen, avoid_RM[row])
        weights = None if weights_V is None or not weights_V[unseen].any() else weights_V[unseen]
        chances = None if weights is None else weights / weights.sum()
        items_RK[row, columns] = rng.choice(unseen, len(columns), p=chances) if len(unseen) else 0
    return items_RK
