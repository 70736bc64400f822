"""From the packed log to batches, each built by whole-array indexing.

Legend: R rows, B rows of one batch, L history events, C candidates. User rows count from 0 in the log and from 1 in
a `Batch`.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.data.batch import Batch, padded_rows
from seqrec_cli.data.batching import BatchedRows, Batching
from seqrec_cli.data.context import contexts
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.negatives import SeenItems, draw_unseen
from seqrec_cli.data.splits import HeldOut, Targets, held_out, train_ends, training_targets


def windows(
    offsets_U1: np.ndarray,
    ends_U: np.ndarray,
    max_length: int,
    kind: Literal["last", "sliding"],
    stride: int | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training windows as (user rows, starts, lengths), each of at most max_length inputs and as many targets.

    `last` keeps each user's latest window; `sliding` cuts the whole history from its end, each event a target once,
    or more often if windows `stride` events apart overlap.
    Users with fewer than two training events have no target and no window.
    """
    starts_U = offsets_U1[:-1]
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


def resident(flat_N: np.ndarray, device: torch.device) -> Tensor:
    """A log's array as a tensor: the mapped file itself on a CPU, a copy in a GPU's memory."""
    return torch.from_numpy(flat_N).to(device)


class WindowRows(BatchedRows):
    """One row a window: the model sees events, and at every position the next one is its target."""

    def __init__(
        self,
        log: PackedLog,
        max_length: int,
        window: Literal["last", "sliding"],
        stride: int | None,
        batching: Batching,
        negatives: int,
        device: torch.device,
        draws_by_row: bool,
    ) -> None:
        ends_U = train_ends(log)
        self._negatives, self._device, self._draws_by_row = negatives, device, draws_by_row
        self._items_N = resident(log.items_N, device)
        self._times_N = None if log.times_N is None else resident(log.times_N, device)
        self._rows_R, self._starts_R, lengths_R = windows(
            np.asarray(log.offsets_U1), ends_U, max_length, window, stride
        )
        self._seen = SeenItems.of(log.offsets_U1, log.items_N, log.num_items, ends_U) if negatives else None
        if self._seen is not None:
            self._seen.refuse_all_met(log.num_users)
        super().__init__(lengths_R - 1, batching)

    def _targets(self, picked_B: np.ndarray) -> np.ndarray:
        return self._lengths_R[picked_B]

    def _batch(self, picked_B: np.ndarray, rng: np.random.Generator) -> Batch:
        rows_B, starts_B, lengths_B = (
            self._rows_R[picked_B],
            self._starts_R[picked_B],
            self._lengths_R[picked_B],
        )
        longest = int(lengths_B.max())
        positions_N = np.flatnonzero(np.arange(longest) < lengths_B[:, None])
        negatives_BLK = None
        if self._seen is not None:
            draws_B = np.ones_like(lengths_B) if self._draws_by_row else lengths_B
            negatives_BLK = draw_beside(rows_B, draws_B, self._negatives, self._seen, rng)
        return Batch(
            users_B=torch.from_numpy(rows_B + 1),
            items_BL=padded_rows(self._items_N, starts_B, lengths_B),
            lengths_B=torch.from_numpy(lengths_B),
            times_BL=None if self._times_N is None else padded_rows(self._times_N, starts_B, lengths_B),
            targets_BL=padded_rows(self._items_N, starts_B + 1, lengths_B),
            positions_N=torch.from_numpy(positions_N),
            negatives_BLK=negatives_BLK,
            request_times_B=self._times_of(starts_B + lengths_B),
            host_lengths_B=torch.from_numpy(lengths_B),
            host_taught_B=torch.from_numpy(lengths_B),
        ).to(self._device)

    def _times_of(self, places_B: np.ndarray) -> Tensor | None:
        return None if self._times_N is None else padded_rows(self._times_N, places_B, np.ones_like(places_B))[:, 0]


class PrefixRows(BatchedRows):
    """One row a prefix: a history, the event that followed it, and items the user has not seen in training."""

    def __init__(
        self, log: PackedLog, max_length: int, batching: Batching, negatives: int, history_negatives: int = 0
    ) -> None:
        ends_U = train_ends(log)
        self._log, self._negatives, self._history_negatives = log, negatives, history_negatives
        self._rows_R, self._ends_R = training_targets(log.offsets_U1, ends_U)
        self._seen = SeenItems.of(log.offsets_U1, log.items_N, log.num_items, ends_U)
        self._seen.refuse_all_met(log.num_users)
        super().__init__(np.minimum(self._ends_R - log.offsets_U1[self._rows_R], max_length), batching)

    def _batch(self, picked_B: np.ndarray, rng: np.random.Generator) -> Batch:
        rows_B, ends_B, lengths_B = self._rows_R[picked_B], self._ends_R[picked_B], self._lengths_R[picked_B]
        negatives_BK = draw_unseen(rows_B, self._negatives, self._seen, rng)
        candidates_BC = np.concatenate([self._log.items_N[ends_B][:, None], negatives_BK], axis=1)
        labels_BC = np.zeros(candidates_BC.shape, np.float32)
        labels_BC[:, 0] = 1
        batch = _request(self._log, rows_B, ends_B, lengths_B, candidates_BC, labels_BC)
        beside = draw_beside(rows_B, lengths_B, self._history_negatives, self._seen, rng)
        return replace(batch, negatives_BLK=beside)


def draw_beside(
    rows_B: np.ndarray, lengths_B: np.ndarray, count: int, seen: SeenItems, rng: np.random.Generator
) -> Tensor | None:
    """Unseen items beside every event of the rows, [B, L, K]; None if none are asked for."""
    if not count:
        return None
    longest = max(int(lengths_B.max(initial=0)), 1)
    drawn = draw_unseen(np.repeat(rows_B, longest), count, seen, rng)
    return torch.from_numpy(drawn).view(len(rows_B), longest, count)


def _request(
    log: PackedLog,
    rows_B: np.ndarray,
    ends_B: np.ndarray,
    lengths_B: np.ndarray,
    candidates_BC: np.ndarray | None = None,
    labels_BC: np.ndarray | None = None,
) -> Batch:
    """Histories that end before a log position, asked about at that event's time and in its context."""
    starts_B, times_N, context_BF = ends_B - lengths_B, log.times_N, contexts(log, ends_B)
    return Batch(
        users_B=torch.from_numpy(rows_B + 1),
        items_BL=padded_rows(log.items_N, starts_B, lengths_B),
        lengths_B=torch.from_numpy(lengths_B),
        times_BL=None if times_N is None else padded_rows(times_N, starts_B, lengths_B),
        candidates_BC=None if candidates_BC is None else torch.from_numpy(candidates_BC.astype(np.int64)),
        labels_BC=None if labels_BC is None else torch.from_numpy(labels_BC.astype(np.float32)),
        request_times_B=None if times_N is None else torch.from_numpy(times_N[ends_B].astype(np.int64)),
        context_BF=None if context_BF is None else torch.from_numpy(context_BF),
    )


def _by_length(
    log: PackedLog, rows_R: np.ndarray, ends_R: np.ndarray, max_length: int, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(places, lengths) of batches of like length, longest first so that memory peaks at once."""
    lengths_R = np.minimum(ends_R - log.offsets_U1[rows_R], max_length)
    order_R = np.argsort(-lengths_R, kind="stable")
    for first in range(0, len(order_R), batch_size):
        places_B = order_R[first : first + batch_size]
        yield places_B, lengths_R[places_B]


def target_batches(
    log: PackedLog, targets: Targets, max_length: int, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, Batch]]:
    """(user rows, absolute positions of the targets, batch) of every target."""
    for places_B, lengths_B in _by_length(log, targets.rows_R, targets.ends_R, max_length, batch_size):
        rows_B, ends_B = targets.rows_R[places_B], targets.ends_R[places_B]
        yield rows_B, ends_B, _request(log, rows_B, ends_B, lengths_B)


def held_out_batches(
    log: PackedLog, split: HeldOut, max_length: int, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, Batch]]:
    """(user rows, absolute positions of the targets, batch) of every evaluated user."""
    return target_batches(log, held_out(log, split), max_length, batch_size)


def labelled_batches(
    log: PackedLog, split: HeldOut, max_length: int, batch_size: int
) -> Iterator[tuple[np.ndarray, Batch]]:
    """(user rows, batch) of the fixed click candidates of a split."""
    clicks = log.clicks[split]
    rows_R, ends_R = np.asarray(clicks.rows_R), np.asarray(clicks.ends_R)
    for places_B, lengths_B in _by_length(log, rows_R, ends_R, max_length, batch_size):
        rows_B, items_BC, labels_BC = rows_R[places_B], clicks.items_RC[places_B], clicks.labels_RC[places_B]
        yield rows_B, _request(log, rows_B, ends_R[places_B], lengths_B, items_BC, labels_BC)
