"""Training events of users drawn once and for all, and the users' favourite values among them.

Legend: U users drawn, N their events, V items, W values an item, A values of an attribute.
"""

from dataclasses import dataclass

import numpy as np

from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.splits import train_ends

MOST_USERS = 20_000


@dataclass(frozen=True)
class Events:
    """Items `items_N` of users `users_N`, which count from 0 in `rows_U`, the users' rows in the log."""

    rows_U: np.ndarray
    items_N: np.ndarray
    users_N: np.ndarray
    lengths_U: np.ndarray

    @classmethod
    def of(cls, log: PackedLog) -> "Events":
        """Of at most `MOST_USERS` users."""
        rows_U = np.sort(np.random.default_rng(0).permutation(log.num_users)[:MOST_USERS])
        starts_U = np.asarray(log.offsets_U1)[rows_U]
        lengths_U = train_ends(log)[rows_U] - starts_U
        items_N = np.asarray(log.items_N[ragged_ranges(starts_U, lengths_U)], np.int64)
        return cls(rows_U, items_N, np.repeat(np.arange(len(rows_U)), lengths_U), lengths_U)

    @property
    def first_half_N(self) -> np.ndarray:
        """True at the earlier half of each user's events, the smaller one."""
        nth_N = np.arange(len(self.users_N)) - np.repeat(np.cumsum(self.lengths_U) - self.lengths_U, self.lengths_U)
        return np.asarray(nth_N < (self.lengths_U // 2)[self.users_N])

    def favourites(self, codes_VW: np.ndarray, shares_A: np.ndarray, which_N: np.ndarray) -> np.ndarray:
        """The value that each user's share of these events exceeds `shares_A` in most, [U]; 0: none."""
        size, users_N = len(shares_A), self.users_N[which_N]
        pairs, times = np.unique(_flipped(codes_VW[self.items_N[which_N]], users_N, size), return_counts=True)
        users, values = pairs // size, pairs % size
        lengths_U = np.bincount(users_N, minlength=len(self.rows_U))
        order = np.lexsort([times / np.maximum(lengths_U[users], 1) - shares_A[values], users])
        found_U = np.zeros(len(self.rows_U), np.int64)
        found_U[users[order]] = values[order]  # the last of a user's, which has the largest excess, stays
        return found_U


def paired(codes_NW: np.ndarray, others_N: np.ndarray, size: int) -> np.ndarray:
    """Each event's values that are there, and what they go with, in one number: value * size + other."""
    values, others = _present(codes_NW, others_N)
    return values * size + others


def _flipped(codes_NW: np.ndarray, others_N: np.ndarray, size: int) -> np.ndarray:
    """The same as other * size + value."""
    values, others = _present(codes_NW, others_N)
    return others * size + values


def _present(codes_NW: np.ndarray, others_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known_NW = codes_NW > 0
    return codes_NW[known_NW].astype(np.int64), np.broadcast_to(others_N[:, None], codes_NW.shape)[known_NW]
