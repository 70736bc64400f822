"""One history as a batch of one row, to be asked what comes next.

Legend: L history events, F context attributes.
"""

import numpy as np
import torch

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.context import contexts
from seqrec_cli.data.interactions import PackedLog


def logged_history(log: PackedLog, row: int, max_length: int) -> Batch:
    """A user's latest events, asked about at the last one's time and in its context."""
    end = int(log.offsets_U1[row + 1])
    start = max(int(log.offsets_U1[row]), end - max_length)
    times_L = None if log.times_N is None else log.times_N[start:end]
    asked_at = None if times_L is None else int(times_L[-1])
    return history_batch(row, log.items_N[start:end], times_L, asked_at, contexts(log, np.array([end - 1])))


def history_batch(
    row: int | None,
    items_L: np.ndarray,
    times_L: np.ndarray | None,
    asked_at: int | None,
    context_1F: np.ndarray | None,
) -> Batch:
    """Items (from 1), the latest last, of a user row of the log, or of nobody that training knew."""
    return Batch(
        users_B=torch.tensor([0 if row is None else row + 1]),
        items_BL=_row(items_L),
        lengths_B=torch.tensor([len(items_L)]),
        times_BL=None if times_L is None else _row(times_L),
        request_times_B=None if asked_at is None else torch.tensor([asked_at]),
        context_BF=None if context_1F is None else torch.from_numpy(context_1F),
    )


def _row(values_L: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values_L, np.int64))[None]
