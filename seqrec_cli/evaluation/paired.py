"""Models on the same users: their mean metrics, and how far the difference to the first is from chance.

Legend: R users with a rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.metrics.kinds import TargetRanks
from seqrec_cli.metrics.table import request_metric


@dataclass(frozen=True)
class UserRanks:
    """What `ranks_*.parquet` holds of each user, ordered by user."""

    users_R: np.ndarray
    items_R: np.ndarray
    ranks_R: np.ndarray
    candidates_R: np.ndarray
    histories_R: np.ndarray

    @classmethod
    def read(cls, path: Path) -> "UserRanks":
        """Raises SeqrecError where the file is missing or torn."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from seqrec_cli.data.arrow import one_array, to_numpy

        columns = ["user_index", "item_index", "rank", "candidates", "history"]
        try:
            table = pq.read_table(path, columns=columns).sort_by("user_index")
        except (OSError, pa.ArrowException, KeyError) as error:
            raise SeqrecError(f"{path}: no file of ranks ({type(error).__name__}); evaluate the run again") from error
        return cls(*(to_numpy(one_array(table[name])) for name in columns))


@dataclass(frozen=True)
class Compared:
    """One model's metric: its mean, and the mean difference to the first model's with its standard error."""

    mean: float
    difference: float
    error: float


def compared(runs: Sequence[UserRanks], metric: str) -> list[Compared]:
    """Each run's mean over users, paired with the first run's user by user."""
    values = [request_metric(metric, TargetRanks.single(run.ranks_R, run.candidates_R)) for run in runs]
    found = []
    for value_R in values:
        difference_R = value_R - values[0]
        error = difference_R.std(ddof=1) / np.sqrt(len(value_R)) if len(value_R) > 1 else float("nan")
        found.append(Compared(float(value_R.mean()), float(difference_R.mean()), float(error)))
    return found


def same_targets(runs: Sequence[UserRanks], names: Sequence[str]) -> None:
    """Raises SeqrecError where two runs ranked other users or other items."""
    first = runs[0]
    for name, run in zip(names[1:], runs[1:], strict=True):
        for what, one, other in (("users", first.users_R, run.users_R), ("items", first.items_R, run.items_R)):
            if not np.array_equal(one, other):
                raise SeqrecError(f"{names[0]} and {name} ranked other {what}; evaluate both on the same data")


def by_history(runs: Sequence[UserRanks], parts: int) -> list[tuple[int, int, np.ndarray]]:
    """(shortest, longest, places [R]) of about equally many users each, by the events before their target.

    Users of one length stay together, so that there may be fewer parts.
    """
    histories_R = runs[0].histories_R
    bounds = np.unique(np.quantile(histories_R, np.arange(1, parts) / parts, method="lower"))
    part_R = np.searchsorted(bounds, histories_R, side="left")
    groups = (np.flatnonzero(part_R == part) for part in range(len(bounds) + 1))
    return [(int(histories_R[g].min()), int(histories_R[g].max()), g) for g in groups if len(g)]


def picked(run: UserRanks, places_R: np.ndarray) -> UserRanks:
    """Some of the users."""
    return UserRanks(*(getattr(run, name)[places_R] for name in run.__dataclass_fields__))
