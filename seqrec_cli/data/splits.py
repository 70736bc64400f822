"""Leave-last-out: a user's last event is the test target, the second-last the validation target, the rest trains.

Users with fewer than three events train whole and are not evaluated; `preprocess` counts and reports them.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqrec_cli.data.interactions import PackedLog

HeldOut = Literal["val", "test"]
MIN_EVENTS = 3  # one to learn from, one to validate, one to test


@dataclass(frozen=True)
class Targets:
    """Held-out events: `rows_R` user rows, `ends_R` absolute log positions of the targets (= ends of the histories)."""

    rows_R: np.ndarray
    ends_R: np.ndarray


def evaluated_rows(offsets_U1: np.ndarray) -> np.ndarray:
    """Rows of users with a held-out event in both splits."""
    return np.flatnonzero(np.diff(offsets_U1) >= MIN_EVENTS)


def train_ends(offsets_U1: np.ndarray) -> np.ndarray:
    """For each user row, the absolute log position its training events end before."""
    lengths_U = np.diff(offsets_U1)
    return offsets_U1[1:] - np.where(lengths_U >= MIN_EVENTS, 2, 0)


def training_counts(log: PackedLog) -> np.ndarray:
    """Every item's training events, int64 [V + 1]; row 0 (padding) has none."""
    every_V = np.bincount(log.items_N, minlength=log.num_items + 1)
    ends_R = log.offsets_U1[evaluated_rows(log.offsets_U1) + 1]
    held_2R = log.items_N[np.concatenate([ends_R - 1, ends_R - 2])]
    return every_V - np.bincount(held_2R, minlength=log.num_items + 1)


def held_out(log: PackedLog, split: HeldOut) -> Targets:
    """The held-out event of every evaluated user."""
    rows_R = evaluated_rows(log.offsets_U1)
    return Targets(rows_R, log.offsets_U1[rows_R + 1] - (2 if split == "val" else 1))
