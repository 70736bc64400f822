"""What an evaluation leaves behind: `ranks_*.parquet`, a row a target, and `clicks_*.parquet`, a row a candidate.

From them comparisons, intervals and segments need no second run of a model.

Legend: R requests, T targets, N labelled candidates.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.evaluation.user_sums import CLICK_SUMS, UserSums, click_sums, request_sums
from seqrec_cli.files import atomic_file
from seqrec_cli.metrics.table import user_metric


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
        names = ["user_index", "item_index", "rank", "candidates", "history"]
        users, items, ranks, candidates, histories, requests = _columns(path, names, "ranks", "request")
        requests = np.arange(len(users)) if requests is None else requests
        order = np.lexsort((requests, users))
        return cls(*(values[order] for values in (users, requests, items, ranks, candidates, histories)))

    def where(self, which_T: np.ndarray) -> Self:
        """Some of the targets, by a mask."""
        return type(self)(*(getattr(self, field.name)[which_T] for field in fields(self)))

    def sums(self, metric: str) -> UserSums:
        """A metric of ranks, its requests' values summed by user."""
        return request_sums(user_metric(metric, self.ranks_T, self.candidates_T), self.users_T)


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
        columns = _columns(path, list(cls.NAMES), "click scores")[: len(cls.NAMES)]
        order = np.lexsort((columns[1], columns[0]))
        return cls(*(values[order] for values in columns if values is not None))

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

    def where(self, which_N: np.ndarray) -> Self:
        """Some of the candidates, by a mask."""
        return type(self)(*(getattr(self, field.name)[which_N] for field in fields(self)))

    def sums(self, metric: str) -> UserSums:
        """One of `CLICK_SUMS`, summed by user."""
        return click_sums(metric, self.labels_N, self.logits_N, self.users_N)


def _columns(path: Path, names: list[str], what: str, optional: str | None = None) -> list[np.ndarray | None]:
    """The columns of a file, and the optional one (None where the file has none) behind them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from seqrec_cli.data.arrow import one_array, to_numpy

    try:
        with pq.ParquetFile(path) as file:
            more = [optional] if optional is not None and optional in file.schema_arrow.names else []
            table = file.read(columns=[*names, *more])
            columns = [to_numpy(one_array(table[name])) for name in (*names, *more)]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise SeqrecError(
            f"{path}: no file of {what} ({type(error).__name__}); evaluate the run again, with run_dir=FOLDER"
        ) from error
    return [*columns, *([] if more else [None])]


def is_click_metric(metric: str) -> bool:
    """Whether it comes from click scores, not from ranks."""
    return metric in CLICK_SUMS
