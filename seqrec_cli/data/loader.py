"""From the packed log to batches, each built by whole-array indexing.

Legend: R rows, B rows of one batch, L history events, C candidates, K negatives. User rows count from 0 in the log and
from 1 in a `Batch`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.objective import Window
from seqrec_cli.data.batch import Batch, padded_rows, to_device
from seqrec_cli.data.batching import BatchedRows, Batching
from seqrec_cli.data.context import context_of, contexts, of_times
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.negatives import SeenItems, draw_unseen
from seqrec_cli.data.splits import train_ends, training_targets
from seqrec_cli.data.view import HeldOut, LabelledRows, Targets
from seqrec_cli.data.weights import event_weights, of_candidates, row_weights

ALL = slice(None)
HOST = torch.device("cpu")


def windows(
    offsets_U1: np.ndarray, ends_U: np.ndarray, max_length: int, *, kind: Window, stride: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training windows as (user rows, starts, lengths), each of at most max_length inputs and the event after them.

    `last` keeps each user's latest window; `sliding` divides the whole history from its end on: each event is a target
    once, or more often if windows `stride` events apart overlap. `packed` does so without overlap: consecutive blocks,
    of which the first of a history is the shorter one. `prefixes` ends a window with every event that has one before
    it. Users with fewer than two training events have no target and no window.
    """
    starts_U = offsets_U1[:-1]
    if kind == "prefixes":
        rows_R, targets_R = training_targets(offsets_U1, ends_U)
        first_R = np.maximum(targets_R - max_length, starts_U[rows_R])
        return rows_R, first_R, targets_R + 1 - first_R
    targets_U = ends_U - starts_U - 1
    if kind == "last":
        rows_R = np.flatnonzero(targets_U > 0)
        lengths_R = np.minimum(targets_U[rows_R], max_length) + 1
        return rows_R, ends_U[rows_R] - lengths_R, lengths_R
    stride = stride or max_length
    windows_U = np.where(targets_U > 0, 1 - (-np.maximum(targets_U - max_length, 0) // stride), 0)
    rows_R = np.repeat(np.arange(len(ends_U)), windows_U)
    lasts_R = ends_U[rows_R] - ragged_ranges(0, windows_U) * stride
    first_R = np.maximum(lasts_R - max_length - 1, starts_U[rows_R])
    return rows_R, first_R, lasts_R - first_R


@dataclass(frozen=True)
class LogTensors:
    """A log's events as tensors: the mapped files themselves on a CPU, a copy in a GPU's memory."""

    items_N: Tensor
    times_N: Tensor | None
    context_NF: Tensor | None = None
    time_context: tuple[str, ...] = ()
    host_times_N: np.ndarray | None = None  # the mapped file: hours are read off times on the host

    @classmethod
    def of(cls, log: PackedLog, device: torch.device) -> Self:
        """On that device."""
        times_N = None if log.times_N is None else torch.from_numpy(log.times_N).to(device)
        context_NF = None if log.context_NF is None else torch.from_numpy(log.context_NF).to(device)
        return cls(torch.from_numpy(log.items_N).to(device), times_N, context_NF, log.time_context, log.times_N)

    def histories(self, rows_B: np.ndarray, starts_B: np.ndarray, lengths_B: np.ndarray) -> Batch:
        """Events start to start + length - 1, of these user rows."""
        return Batch(
            users_B=torch.from_numpy(rows_B + 1),
            items_BL=padded_rows(self.items_N, starts_B, lengths_B),
            lengths_B=torch.from_numpy(lengths_B),
            times_BL=self._times(starts_B, lengths_B),
            context_BLF=self._contexts(starts_B, lengths_B),
        )

    def contexts_at(self, positions_B: np.ndarray) -> Tensor | None:
        """Context of events, [B, F]."""
        context_B1F = self._contexts(positions_B, np.ones_like(positions_B))
        return None if context_B1F is None else context_B1F[:, 0]

    def _times(self, starts_B: np.ndarray, lengths_B: np.ndarray) -> Tensor | None:
        return None if self.times_N is None else padded_rows(self.times_N, starts_B, lengths_B)

    def _contexts(self, starts_B: np.ndarray, lengths_B: np.ndarray) -> Tensor | None:
        """Context of events [B, L, F], 0 past each row's end; None where the log has none."""
        parts = [] if self.context_NF is None else [padded_rows(self.context_NF, starts_B, lengths_B)]
        if self.time_context and self.host_times_N is not None:
            times_BL = padded_rows(self.host_times_N, starts_B, lengths_B)
            real_BL = torch.arange(times_BL.shape[1]) < torch.from_numpy(lengths_B)[:, None]
            moments_BLF = torch.from_numpy(of_times(self.time_context, times_BL.numpy()))
            parts.append(to_device(moments_BLF * real_BL[..., None], self.items_N.device))
        return None if not parts else torch.cat(parts, dim=-1)

    def times_at(self, positions_B: np.ndarray) -> Tensor | None:
        """Times of events, [B]."""
        times_B1 = self._times(positions_B, np.ones_like(positions_B))
        return None if times_B1 is None else times_B1[:, 0]


class WindowRows(BatchedRows):
    """One row a window: the model sees events, and the next one is the target of every position, or (`prefixes`) of
    the last one alone."""

    def __init__(
        self,
        log: PackedLog,
        max_length: int,
        batching: Batching,
        *,
        window: Window,
        stride: int | None,
        negatives: int,
        draws_by_row: bool,
        device: torch.device,
        log_on: torch.device | None = None,
    ) -> None:
        """Batches are on `device`, cut from the log on `log_on` (None: there too)."""
        self._negatives, self._draws_by_row, self._device = negatives, draws_by_row, device
        self._one_a_row = window == "prefixes"
        self._events = LogTensors.of(log, log_on or device)
        self._rows_R, self._starts_R, lengths_R = windows(
            np.asarray(log.offsets_U1), train_ends(log), max_length, kind=window, stride=stride
        )
        weights_N = event_weights(log)
        self._weights_N = None if weights_N is None else torch.from_numpy(weights_N).to(log_on or device)
        self._seen = SeenItems.in_training(log) if negatives else None
        if self._seen is not None:
            self._seen.refuse_all_seen(log.num_users)
        super().__init__(lengths_R - 1, batching)

    def _targets(self, picked_B: np.ndarray) -> np.ndarray:
        return np.ones_like(self._lengths_R[picked_B]) if self._one_a_row else self._lengths_R[picked_B]

    def _batch(self, picked_B: np.ndarray, rng: np.random.Generator) -> Batch:
        rows_B, starts_B, lengths_B = self._rows_R[picked_B], self._starts_R[picked_B], self._lengths_R[picked_B]
        negatives_BLK = None
        if self._seen is not None:
            draws_B = np.ones_like(lengths_B) if self._draws_by_row else lengths_B
            negatives_BLK = unseen_at_events(rows_B, draws_B, self._negatives, seen=self._seen, rng=rng)
        batch, targets_B = self._events.histories(rows_B, starts_B, lengths_B), self._targets(picked_B)
        taught_BL = np.arange(lengths_B.max()) < lengths_B[:, None]
        taught_BL &= np.arange(lengths_B.max()) >= (lengths_B - targets_B)[:, None]
        targets_BL = padded_rows(self._events.items_N, starts_B + 1, lengths_B)
        if self._one_a_row:
            targets_BL *= to_device(torch.from_numpy(taught_BL), targets_BL.device)
        return replace(
            batch,
            targets_BL=targets_BL,
            weights_BL=padded_weights(self._weights_N, starts_B + 1, lengths_B),
            positions_N=torch.from_numpy(np.flatnonzero(taught_BL)),
            negatives_BLK=negatives_BLK,
            request_times_B=self._events.times_at(starts_B + lengths_B),
            context_BF=self._events.contexts_at(starts_B + lengths_B),
            host_lengths_B=batch.lengths_B,
            host_taught_B=torch.from_numpy(targets_B),
        ).to(self._device)


def padded_weights(weights_N: Tensor | None, starts_B: np.ndarray, lengths_B: np.ndarray) -> Tensor | None:
    """Weights of events start to start + length - 1, [B, L]."""
    return None if weights_N is None else padded_rows(weights_N, starts_B, lengths_B, dtype=torch.float32)


class PrefixRows(BatchedRows):
    """One row a prefix: a history, the event that followed it, and items the user has not seen in training."""

    def __init__(
        self,
        log: PackedLog,
        max_length: int,
        batching: Batching,
        *,
        negatives: int,
        history_negatives: int = 0,
        history_pool_N: np.ndarray | None = None,
        device: torch.device = HOST,
        log_on: torch.device | None = None,
    ) -> None:
        """Batches are on `device`, cut from the log on `log_on` (None: there too)."""
        self._log, self._negatives, self._history_negatives = log, negatives, history_negatives
        self._device, self._events = device, LogTensors.of(log, log_on or device)
        self._history_pool_N = history_pool_N
        self._rows_R, self._ends_R = training_targets(log.offsets_U1, train_ends(log))
        self._weights_N = event_weights(log)
        self._seen = SeenItems.in_training(log)
        self._seen.refuse_all_seen(log.num_users)
        super().__init__(np.minimum(self._ends_R - log.offsets_U1[self._rows_R], max_length), batching)

    def _batch(self, picked_B: np.ndarray, rng: np.random.Generator) -> Batch:
        rows_B, ends_B, lengths_B = self._rows_R[picked_B], self._ends_R[picked_B], self._lengths_R[picked_B]
        targets_B1 = self._log.items_N[ends_B][:, None]
        negatives_BK = draw_unseen(rows_B, self._negatives, self._seen, rng=rng, avoid_RM=targets_B1)
        candidates_BC = np.concatenate([targets_B1, negatives_BK], axis=1)
        labels_BC = np.zeros(candidates_BC.shape, np.float32)
        labels_BC[:, 0] = 1
        negatives_BLK = unseen_at_events(
            rows_B, lengths_B, self._history_negatives, seen=self._seen, rng=rng, pool_N=self._history_pool_N
        )
        asked = _requests(self._log, rows_B, ends_B, lengths_B=lengths_B, events=self._events)
        batch = known_on_host(_with_candidates(asked, candidates_BC, labels_BC))
        weights_B = None if self._weights_N is None else self._weights_N[ends_B]
        weights_BC = of_candidates(weights_B, candidates_BC)
        return replace(batch, negatives_BLK=negatives_BLK, weights_BC=weights_BC).to(self._device)


class LabelledTraining(BatchedRows):
    """One row a labelled row of the dataset's training split: its protocol's own candidates, the same every epoch."""

    def __init__(
        self,
        log: PackedLog,
        max_length: int,
        batching: Batching,
        *,
        history_negatives: int = 0,
        history_pool_N: np.ndarray | None = None,
        device: torch.device = HOST,
        log_on: torch.device | None = None,
    ) -> None:
        """Batches are on `device`, cut from the log on `log_on` (None: there too)."""
        self._device, self._events = device, LogTensors.of(log, log_on or device)
        self._log, self._rows, self._history_negatives = log, log.clicks["train"], history_negatives
        self._history_pool_N, self._weights_R = history_pool_N, row_weights(log, self._rows)
        self._seen = SeenItems.in_training(log)
        lengths_R = np.asarray(self._rows.ends_R) - log.offsets_U1[self._rows.rows_R]
        super().__init__(np.minimum(lengths_R, max_length), batching)

    def _batch(self, picked_B: np.ndarray, rng: np.random.Generator) -> Batch:
        rows, lengths_B = self._rows.at(picked_B), self._lengths_R[picked_B]
        widest = max(1, int((rows.items_RC > 0).sum(axis=1).max(initial=1)))  # of this batch; padding is on the right
        batch = _requests(self._log, rows.rows_R, rows.ends_R, lengths_B=lengths_B, own=rows, events=self._events)
        items_BC = rows.items_RC[:, :widest]
        batch = known_on_host(_with_candidates(batch, items_BC, rows.labels_RC[:, :widest]))
        weights_B = None if self._weights_R is None else self._weights_R[picked_B]
        negatives_BLK = unseen_at_events(
            rows.rows_R, lengths_B, self._history_negatives, seen=self._seen, rng=rng, pool_N=self._history_pool_N
        )
        weights_BC = of_candidates(weights_B, items_BC)
        return replace(batch, negatives_BLK=negatives_BLK, weights_BC=weights_BC).to(self._device)


def known_on_host(batch: Batch) -> Batch:
    """A batch of candidates, made on the host, that keeps there what a step asks of it."""
    assert batch.candidates_BC is not None
    taught_B = torch.count_nonzero(batch.candidates_BC, dim=1)
    return replace(batch, host_lengths_B=batch.lengths_B, host_taught_B=taught_B)


def unseen_at_events(
    rows_B: np.ndarray,
    lengths_B: np.ndarray,
    count: int,
    *,
    seen: SeenItems,
    rng: np.random.Generator,
    pool_N: np.ndarray | None = None,
) -> Tensor | None:
    """`count` unseen items for every event of the rows, [B, L, K], from all alike or as often as in `pool_N`; None for
    a count of 0."""
    if not count:
        return None
    longest = max(int(lengths_B.max(initial=0)), 1)
    drawn = draw_unseen(np.repeat(rows_B, longest), count, seen, rng=rng, pool_N=pool_N)
    return torch.from_numpy(drawn).view(len(rows_B), longest, count)


def _requests(
    log: PackedLog,
    rows_B: np.ndarray,
    ends_B: np.ndarray,
    *,
    lengths_B: np.ndarray,
    own: LabelledRows | None = None,
    events: LogTensors | None = None,
) -> Batch:
    """Histories that end before a log position, asked about at that event's time and in its context, or at the time
    and in the context of rows that have their own. They are cut from `events` (None: on the host).
    """
    if own is not None and own.asked_apart:
        times_B, context_BF = own.times_R, context_of(log, own.context_RF, own.times_R)
    else:
        times_B, context_BF = None if log.times_N is None else log.times_N[ends_B], contexts(log, ends_B)
    return replace(
        (events or LogTensors.of(log, HOST)).histories(rows_B, ends_B - lengths_B, lengths_B),
        request_times_B=None if times_B is None else torch.from_numpy(times_B.astype(np.int64)),
        context_BF=None if context_BF is None else torch.from_numpy(context_BF),
    )


def _with_candidates(batch: Batch, items_BC: np.ndarray, labels_BC: np.ndarray) -> Batch:
    return replace(
        batch,
        candidates_BC=torch.from_numpy(items_BC.astype(np.int64)),
        labels_BC=torch.from_numpy(labels_BC.astype(np.float32)),
    )


def request_batches(
    log: PackedLog,
    rows_R: np.ndarray,
    ends_R: np.ndarray,
    *,
    max_length: int,
    batch_size: int,
    own: LabelledRows | None = None,
    share: slice = ALL,
) -> Iterator[tuple[np.ndarray, Batch]]:
    """(which requests, batch) of requests of like length, longest first so that memory peaks at once; of all batches
    those of a `share`.

    `rows_R` user rows, `ends_R` the absolute positions their histories end before; `own` are the requests with times
    and contexts of their own.
    """
    lengths_R = np.minimum(ends_R - log.offsets_U1[rows_R], max_length)
    order_R = np.argsort(-lengths_R, kind="stable")
    for first in range(0, len(order_R), batch_size)[share]:
        picked_B = order_R[first : first + batch_size]
        asked = None if own is None else own.at(picked_B)
        rows_B, ends_B, lengths_B = rows_R[picked_B], ends_R[picked_B], lengths_R[picked_B]
        yield picked_B, _requests(log, rows_B, ends_B, lengths_B=lengths_B, own=asked)


def target_batches(
    log: PackedLog, targets: Targets, *, max_length: int, batch_size: int, share: slice = ALL
) -> Iterator[tuple[np.ndarray, Batch]]:
    """(which requests, batch) of every held-out request, or of a share of the batches."""
    rows_R, ends_R = targets.rows_R, targets.ends_R
    yield from request_batches(log, rows_R, ends_R, max_length=max_length, batch_size=batch_size, share=share)


def labelled_batches(
    log: PackedLog, split: HeldOut, *, max_length: int, batch_size: int, share: slice = ALL
) -> Iterator[tuple[np.ndarray, Batch]]:
    """(which rows, batch) of the fixed click candidates of a split, or of a share of the batches."""
    clicks = log.clicks[split]
    rows_R, ends_R = np.asarray(clicks.rows_R), np.asarray(clicks.ends_R)
    batches = request_batches(
        log, rows_R, ends_R, max_length=max_length, batch_size=batch_size, own=clicks, share=share
    )
    for picked_B, batch in batches:
        yield picked_B, _with_candidates(batch, clicks.items_RC[picked_B], clicks.labels_RC[picked_B])
