"""A log that comes with its own split: what is held out may not be older than what the same user trains on.

Legend: N events.
"""

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.vocabulary import factorize

NAMES = ("train", "valid", "test")


def check_order(users_N: np.ndarray, splits_N: np.ndarray, times_N: np.ndarray | None, *, keep: bool) -> list[str]:
    """What to say of the split. Raises SeqrecError where held-out events are older than an event of an earlier split of
    their user, unless they are to be kept: such a target lies in the past of what the model was trained on."""
    counts = np.bincount(splits_N, minlength=3)
    early = 0 if times_N is None or not len(times_N) else count_early(factorize(users_N)[1], splits_N, times_N)
    return split_notes(counts, early, keep=keep)


def count_early(codes_N: np.ndarray, splits_N: np.ndarray, times_N: np.ndarray) -> int:
    """How many held-out events are older than an event of an earlier split of their user; users are codes from 0."""
    early_N = np.zeros(len(codes_N), bool)
    for split in (1, 2):
        latest_U = np.full(int(codes_N.max()) + 1, np.iinfo(np.int64).min)
        before_N = splits_N < split
        np.maximum.at(latest_U, codes_N[before_N], times_N[before_N])
        early_N |= (splits_N == split) & (times_N < latest_U[codes_N])
    return int(early_N.sum())


def split_notes(counts: np.ndarray, early: int, *, keep: bool) -> list[str]:
    """What to say of a split with so many events of each kind. Raises SeqrecError as `check_order`."""
    events = ", ".join(f"{name} {count:,}" for name, count in zip(NAMES, counts.tolist(), strict=True))
    notes = [f"the log's own split: {events} events; protocol=given asks by it, any other protocol makes its own"]
    if not early:
        return notes
    said = f"{early:,} of {int(counts[1:].sum()):,} events of valid and test are older than an event that their user"
    if not keep:
        raise SeqrecError(
            f"{said} trains on (or validates on): their answers lie in the model's past. If the split is meant so "
            "(drawn at random), set dataset.split_leaks=true"
        )
    return [*notes, f"{said} trains on: the split is not one in time (dataset.split_leaks)"]
