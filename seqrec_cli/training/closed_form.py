"""Fitting a model in closed form: one pass over the training histories, and no gradient."""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import train_ends
from seqrec_cli.models.contract import Recommender
from seqrec_cli.saying import Say, silent
from seqrec_cli.training.memory import available_memory

TIMED_WIDTH, TIMED_USERS = 1024, 2000  # of what is timed to tell how long fitting will take


def training_histories(log: PackedLog) -> Iterator[Tensor]:
    """Each user's training events in order, int64 [n]; users without any are left out."""
    for start, end in zip(log.offsets_U1[:-1].tolist(), train_ends(log).tolist(), strict=True):
        if end > start:
            yield torch.from_numpy(log.items_N[start:end].astype(np.int64))


def fit_closed_form(model: Recommender, log: PackedLog, tell: Say = silent) -> None:
    """Fit `model` to the training events; it never sees a held-out one.

    Raises SeqrecError where that needs more memory than there is.
    """
    if line := closed_form_shortage(model, log):
        raise SeqrecError(line)
    _fit(model, training_histories(log), tell)


def _fit(model: Recommender, histories: Iterable[Tensor], tell: Say = silent) -> None:
    with warnings.catch_warnings():  # torch says of every sparse matrix that it is new
        warnings.filterwarnings("ignore", "Sparse ", UserWarning)
        model.fit_closed_form(histories, tell)


def closed_form_seconds(model: Recommender, log: PackedLog) -> float:
    """About what fitting takes: its operations at the speed of a product that is timed, else what some users' events
    take, scaled to all. `model` is fitted to them and of no use afterwards."""
    if flops := model.closed_form_flops(len(log.items_N)):
        square = torch.rand(TIMED_WIDTH, TIMED_WIDTH, device=next(model.buffers()).device)
        seconds = min(_seconds(lambda: (square @ square).sum().item()) for _ in range(3))
        return seconds * flops / (2 * TIMED_WIDTH**3)
    histories, events, sample = list(training_histories(log)), 0, list[Tensor]()
    for history in histories[:: max(1, len(histories) // TIMED_USERS)]:
        sample.append(history)
        events += len(history)
    _fit(model, sample)  # the first time warms up
    all_events = sum(map(len, histories))
    return _seconds(lambda: _fit(model, sample)) * all_events / max(events, 1)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def closed_form_shortage(model: Recommender, log: PackedLog) -> str | None:
    """One line where fitting needs more memory than there is; None where it does not, or nobody knows."""
    needed, device = model.closed_form_bytes(len(log.items_N)), next(model.buffers(), torch.empty(0)).device
    if device.type == "meta":
        device = torch.device("cpu")
    available = available_memory(device) if needed else None
    if available is None or needed <= available:
        return None
    return (
        f"counting needs {needed / 2**30:,.1f} GiB for the pairs of {log.num_items:,} items, "
        f"{available / 2**30:,.1f} GiB are free; leave rare items out (dataset.item_core=5)"
        f"{model.closed_form_cheaper()}"
    )
