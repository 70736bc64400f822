"""What an evaluation leaves behind: `ranks_*.parquet`, a row a target, and `clicks_*.parquet`, a row a candidate.

From them comparisons, intervals and segments need no second run of a model.

Legend: R requests, T targets, N labelled candidates.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.view import LabelledRows
from seqrec_cli.evaluation.intervals import user_interval
from seqrec_cli.evaluation.ranks import Ranks
from seqrec_cli.evaluation.user_sums import CLICK_SUMS, UserSums, click_sums, request_sums
from seqrec_cli.files import atomic_file
from seqrec_cli.metrics.kinds import MetricError, RankMetric, TargetRanks
from seqrec_cli.metrics.table import LOSS, parse_metric, rank_metric


@dataclass(frozen=True)
class StoredRanks:
    """A row a target, ordered by user and request; targets of one request stand together."""

    users_T: np.ndarray  # counted from 1, as in the vocabularies
    requests_T: np.ndarray
    items_T: np.ndarray
    ranks_T: np.ndarray
    candidates_T: np.ndarray
    histories_T: np.ndarray

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises SeqrecError where the file is missing or torn. Without a column of requests each row is one."""
        names = ("user_index", "item_index", "rank", "candidates", "history")
        found = _columns(path, names, "ranks", optional="request")
        users_T = found["user_index"]
        requests_T = found.get("request", np.arange(len(users_T)))
        order_T = np.lexsort((requests_T, users_T))
        arrays = (users_T, requests_T, *(found[name] for name in names[1:]))
        return cls(*(array[order_T] for array in arrays))

    @classmethod
    def of(cls, ranks: Ranks) -> Self:
        """What was just measured."""
        requests_T = ranks.requests_T
        candidates_T, histories_T = ranks.candidates_R[requests_T], ranks.histories_R[requests_T]
        return cls(ranks.rows_R[requests_T] + 1, requests_T, ranks.items_T, ranks.ranks_T, candidates_T, histories_T)

    def where(self, which_T: np.ndarray) -> Self:
        """Some of the targets, by a mask."""
        return type(self)(*(getattr(self, field.name)[which_T] for field in fields(self)))

    @cached_property
    def starts_R(self) -> np.ndarray:
        """Where each request's targets begin."""
        new_T = (np.diff(self.requests_T, prepend=-1) != 0) | (np.diff(self.users_T, prepend=-1) != 0)
        return np.flatnonzero(new_T)

    @cached_property
    def as_read(self) -> TargetRanks:
        """The ranks as metrics read them."""
        starts_R = self.starts_R
        return TargetRanks(self.ranks_T, np.append(starts_R, len(self.ranks_T)), self.candidates_T[starts_R])

    def sums(self, metric: str) -> UserSums:
        """A metric of ranks, its requests' values summed by user."""
        of_ranks, k = rank_metric(metric)
        return request_sums(of_ranks.value(self.as_read, k), self.users_T[self.starts_R])


@dataclass(frozen=True)
class StoredClicks:
    """A row a labelled candidate, ordered by user and request."""

    users_N: np.ndarray
    requests_N: np.ndarray
    items_N: np.ndarray
    histories_N: np.ndarray
    labels_N: np.ndarray
    logits_N: np.ndarray

    NAMES = ("user_index", "request", "item_index", "history", "label", "logit")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises SeqrecError where the file is missing or torn."""
        found = _columns(path, cls.NAMES, "click scores")
        order_N = np.lexsort((found["request"], found["user_index"]))
        return cls(*(found[name][order_N] for name in cls.NAMES))

    def save(self, path: Path) -> None:
        """To Parquet, atomically."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from seqrec_cli.data.arrow import from_numpy

        arrays = (getattr(self, field.name) for field in fields(self))
        table = pa.table({name: from_numpy(values) for name, values in zip(self.NAMES, arrays, strict=True)})
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            pq.write_table(table, temporary)

    @classmethod
    def of(cls, rows: LabelledRows, logits_RC: np.ndarray, offsets_U1: np.ndarray) -> Self:
        """The labelled rows of a split and a model's logits for them; `offsets_U1`: where users' histories begin."""
        rows_R, real_RC = np.asarray(rows.rows_R), np.asarray(rows.items_RC) > 0
        order_R = np.argsort(rows_R, kind="stable")
        counts_R = real_RC.sum(axis=1)[order_R]
        histories_R = np.asarray(rows.ends_R) - np.asarray(offsets_U1)[rows_R]
        real_RC, columns = real_RC[order_R], (np.asarray(rows.items_RC), np.asarray(rows.labels_RC), logits_RC)
        return cls(
            np.repeat(rows_R[order_R] + 1, counts_R),
            np.repeat(order_R, counts_R),
            columns[0][order_R][real_RC],
            np.repeat(histories_R[order_R], counts_R),
            columns[1][order_R][real_RC],
            columns[2][order_R][real_RC],
        )

    def where(self, which_N: np.ndarray) -> Self:
        """Some of the candidates, by a mask."""
        return type(self)(*(getattr(self, field.name)[which_N] for field in fields(self)))

    def sums(self, metric: str) -> UserSums:
        """One of `CLICK_SUMS`, summed by user."""
        return click_sums(metric, labels_N=self.labels_N, logits_N=self.logits_N, users_N=self.users_N)


def _columns(path: Path, names: Sequence[str], what: str, *, optional: str | None = None) -> dict[str, np.ndarray]:
    """The columns of a file by name; the optional one where the file has it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from seqrec_cli.data.arrow import one_array, to_numpy

    try:
        with pq.ParquetFile(path) as file:
            wanted = [*names, *([optional] if optional in file.schema_arrow.names else [])]
            table = file.read(columns=wanted)
            return {str(name): to_numpy(one_array(table[name])) for name in wanted}
    except (OSError, pa.ArrowException, KeyError) as error:
        raise SeqrecError(
            f"{path}: no file of {what} ({type(error).__name__}); evaluate the run again, with run_dir=FOLDER"
        ) from error


def is_click_metric(metric: str) -> bool:
    """Whether it comes from click scores, not from ranks."""
    return metric in CLICK_SUMS


def intervals(names: Iterable[str], ranks: StoredRanks, clicks: StoredClicks) -> dict[str, list[float]]:
    """95 % [low, high] of each metric, by standard errors over users; without those that are no mean over users."""
    found = {}
    for name in names:
        if name != LOSS and (is_click_metric(name) or isinstance(parse_metric(name)[0], RankMetric)):
            try:
                low, high = user_interval((clicks if is_click_metric(name) else ranks).sums(name))
            except MetricError:
                continue
            if np.isfinite([low, high]).all():  # one user has no standard error
                found[name] = [low, high]
    return found
