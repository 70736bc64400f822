"""Where each user's training events end, and which events are held out.

Leave-last-out: a user's last event is the test target, the second-last the validation target, the rest trains. By
user: the held-out users' last events are targets, none of their events trains. Users with fewer than three events
(by user: those the protocol has no row for) train whole and are not evaluated; `preprocess` counts and reports them.

Legend: U users, N events, R targets or labelled rows, V items, Q requests (labelled rows in order of users and time).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqrec_cli.data.interactions import Ends, LabelledRows, PackedLog, ragged_ranges

HeldOut = Literal["val", "test"]
MIN_EVENTS = 3  # one to learn from, one to validate, one to test
NONE = -1  # no target


@dataclass(frozen=True)
class Targets:
    """Held-out events: `rows_R` user rows, `ends_R` absolute log positions of the targets (= ends of the histories)."""

    rows_R: np.ndarray
    ends_R: np.ndarray


def leave_last(offsets_U1: np.ndarray) -> Ends:
    """The last event tests, the second-last validates."""
    offsets_U1 = np.asarray(offsets_U1)
    enough_U = np.diff(offsets_U1) >= MIN_EVENTS
    lasts_U = offsets_U1[1:]
    return Ends(
        lasts_U - np.where(enough_U, 2, 0), np.where(enough_U, lasts_U - 2, NONE), np.where(enough_U, lasts_U - 1, NONE)
    )


def by_users(offsets_U1: np.ndarray, among: np.ndarray, *, share: float, seed: int) -> Ends:
    """A share of the users `among` validates by their last event, as many others test, all others train whole."""
    count = max(1, round(share * len(among)))
    drawn = np.random.default_rng([seed, 7]).permutation(among)
    train_U, lasts_U = offsets_U1[1:].copy(), offsets_U1[1:] - 1
    held = {}
    for split, rows_R in (("val", drawn[:count]), ("test", drawn[count : 2 * count])):
        held[split] = np.full(len(lasts_U), NONE, np.int64)
        held[split][rows_R] = lasts_U[rows_R]
        train_U[rows_R] = offsets_U1[rows_R]
    return Ends(train_U, held["val"], held["test"])


def by_requests(
    offsets_U1: np.ndarray, requests: LabelledRows, *, whole_users: bool, share: float, seed: int
) -> tuple[Ends, dict[str, LabelledRows]]:
    """Targets are requests: a user's last two, or, with `whole_users`, all of a share of the users (ranked: the last).

    Of a user whose requests are held out, no event from the validation request on trains.
    """
    rows_Q, ends_Q = requests.rows_R, requests.ends_R
    users = len(offsets_U1) - 1
    counts_U = np.bincount(rows_Q, minlength=users)
    lasts_U = np.full(users, NONE, np.int64)
    lasts_U[rows_Q] = ends_Q  # the last of a user's stays
    left_Q = np.cumsum(counts_U)[rows_Q] - 1 - np.arange(len(rows_Q))  # requests after this one
    if whole_users:
        ends = by_users(offsets_U1, np.flatnonzero(counts_U), share=share, seed=seed)
        val_U, test_U = (np.where(held_U == NONE, NONE, lasts_U) for held_U in (ends.val_U, ends.test_U))
        ends = Ends(ends.train_U, val_U, test_U)
        part_Q = np.where(val_U[rows_Q] != NONE, 1, np.where(test_U[rows_Q] != NONE, 2, 0))
    else:
        enough_U = counts_U >= MIN_EVENTS
        part_Q = np.where(enough_U[rows_Q] & (left_Q < 2), 2 - left_Q, 0)
        val_U = np.full(users, NONE, np.int64)
        val_U[rows_Q[part_Q == 1]] = ends_Q[part_Q == 1]
        train_U = np.where(enough_U, val_U, offsets_U1[1:])
        ends = Ends(train_U, val_U, np.where(enough_U, lasts_U, NONE))
    return ends, {split: requests.at(part_Q == part) for part, split in enumerate(("train", "val", "test"))}


def ends_of(log: PackedLog) -> Ends:
    """The log's own, or leave-last-out."""
    return leave_last(log.offsets_U1) if log.ends is None else log.ends


def train_ends(log: PackedLog) -> np.ndarray:
    """For each user row, the absolute log position its training events end before."""
    return np.asarray(ends_of(log).train_U)


def training_targets(offsets_U1: np.ndarray, ends_U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(user rows, absolute positions) of every training event that has one before it."""
    offsets_U1 = np.asarray(offsets_U1)
    counts_U = np.maximum(ends_U - offsets_U1[:-1] - 1, 0)
    return np.repeat(np.arange(len(counts_U)), counts_U), ragged_ranges(offsets_U1[:-1] + 1, counts_U)


def training_counts(log: PackedLog) -> np.ndarray:
    """Every item's training events, int64 [V + 1]; row 0 (padding) has none."""
    every_V = np.bincount(log.items_N, minlength=log.num_items + 1)
    ends_U = train_ends(log)
    held_U = log.offsets_U1[1:] - ends_U
    held_H = log.items_N[ragged_ranges(ends_U, held_U)]
    return every_V - np.bincount(held_H, minlength=log.num_items + 1)


def training_items(log: PackedLog) -> np.ndarray:
    """The items of all training events: one drawn from these is drawn by popularity."""
    starts_U = np.asarray(log.offsets_U1)[:-1]
    return np.asarray(log.items_N[ragged_ranges(starts_U, train_ends(log) - starts_U)])


def subsample(targets: Targets, users: int | None) -> Targets:
    """At most that many of the targets, drawn once and for all; in order."""
    if users is None or users >= len(targets.rows_R):
        return targets
    picked = np.sort(np.random.default_rng(0).permutation(len(targets.rows_R))[:users])
    return Targets(targets.rows_R[picked], targets.ends_R[picked])


def user_training_counts(log: PackedLog) -> np.ndarray:
    """The training events of every user of the catalog, int64 [U + 1]; row 0 (unknown) has none.

    A log may hold the first users of its catalog alone.
    """
    counts_U = np.zeros(log.catalog.num_users + 1, np.int64)
    counts_U[1 : log.num_users + 1] = train_ends(log) - np.asarray(log.offsets_U1)[:-1]
    return counts_U


def held_out(log: PackedLog, split: HeldOut) -> Targets:
    """The held-out event of every evaluated user."""
    return Targets(*ends_of(log).targets(split))
