"""What trains and what is held out, as a log's view has it.

A log in memory that no protocol was applied to is read as leave-last-out: a user's last event is the test target, the
second-last the validation target, the rest trains; users with fewer than three events train whole.

Legend: U users, N events, R requests, V items.
"""

import numpy as np

from seqrec_cli.data.blocks import user_blocks
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.view import HeldOut, Targets, View

MIN_EVENTS = 3  # one to learn from, one to validate, one to test


def leave_last(offsets_U1: np.ndarray) -> View:
    """The last event tests, the second-last validates."""
    offsets_U1 = np.asarray(offsets_U1)
    rows_R = np.flatnonzero(np.diff(offsets_U1) >= MIN_EVENTS)
    train_U = offsets_U1[1:].copy()
    train_U[rows_R] -= 2
    lasts_R = offsets_U1[1:][rows_R]
    return View(train_U, Targets.next_events(rows_R, lasts_R - 2), Targets.next_events(rows_R, lasts_R - 1))


def view_of(log: PackedLog) -> View:
    """The log's own, or leave-last-out."""
    return leave_last(log.offsets_U1) if log.view is None else log.view


def train_ends(log: PackedLog) -> np.ndarray:
    """For each user row, the absolute log position its training events end before."""
    return np.asarray(view_of(log).train_U)


def training_targets(offsets_U1: np.ndarray, ends_U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(user rows, absolute positions) of every training event that has one before it."""
    offsets_U1 = np.asarray(offsets_U1)
    counts_U = np.maximum(ends_U - offsets_U1[:-1] - 1, 0)
    return np.repeat(np.arange(len(counts_U)), counts_U), ragged_ranges(offsets_U1[:-1] + 1, counts_U)


def training_counts(log: PackedLog) -> np.ndarray:
    """Every item's training events, int64 [V + 1]; row 0 (padding) has none."""
    counts_V = np.zeros(log.num_items + 1, np.int64)
    ends_U = train_ends(log)
    for users, events in user_blocks(log.offsets_U1):  # bincount takes 8 bytes an event
        counts_V += np.bincount(log.items_N[events], minlength=log.num_items + 1)
        held_U = log.offsets_U1[1:][users] - ends_U[users]
        held_H = log.items_N[ragged_ranges(ends_U[users], held_U)]
        counts_V -= np.bincount(held_H, minlength=log.num_items + 1)
    return counts_V


def training_items(log: PackedLog) -> np.ndarray:
    """The items of all training events: one drawn from these is drawn by popularity."""
    starts_U = np.asarray(log.offsets_U1)[:-1]
    return np.asarray(log.items_N[ragged_ranges(starts_U, train_ends(log) - starts_U)])


def subsample(targets: Targets, requests: int | None) -> Targets:
    """At most that many of the requests, drawn once and for all; in order."""
    if requests is None or requests >= len(targets.rows_R):
        return targets
    return targets.at(np.sort(np.random.default_rng(0).permutation(len(targets.rows_R))[:requests]))


def user_training_counts(log: PackedLog) -> np.ndarray:
    """The training events of every user of the catalog, int64 [U + 1]; row 0 (unknown) has none.

    A log may hold the first users of its catalog alone.
    """
    counts_U = np.zeros(log.catalog.num_users + 1, np.int64)
    counts_U[1 : log.num_users + 1] = train_ends(log) - np.asarray(log.offsets_U1)[:-1]
    return counts_U


def held_out(log: PackedLog, split: HeldOut) -> Targets:
    """The held-out requests of a split."""
    return view_of(log).targets(split)
