"""Histories whose next item is asked for, many at a time: of the log's users, or given with a request.

Legend: R histories, B histories of a batch, L history events, N events of all histories, M seen events of a batch,
F context attributes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from seqrec_cli.data.batch import Batch, padded_rows
from seqrec_cli.data.context import contexts
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.view import Targets


@dataclass(frozen=True)
class Histories:
    """Slices `starts_R:ends_R` of flat arrays; none is empty. Items and users count from 1, user 0 is nobody known."""

    users_R: np.ndarray
    items_N: np.ndarray
    starts_R: np.ndarray
    ends_R: np.ndarray
    times_N: np.ndarray | None = None  # seconds
    asked_at_R: np.ndarray | None = None
    context_RF: np.ndarray | None = None
    context_NF: np.ndarray | None = None  # of the events

    def __len__(self) -> int:
        return len(self.users_R)

    def own(self) -> "Histories":
        """The same without other histories' events, which slices of a whole log have between them."""
        lengths_R = np.asarray(self.ends_R - self.starts_R)
        events_N = ragged_ranges(self.starts_R, lengths_R)
        ends_R = np.cumsum(lengths_R)
        return replace(
            self,
            items_N=np.asarray(self.items_N[events_N], np.int64),
            starts_R=ends_R - lengths_R,
            ends_R=ends_R,
            times_N=None if self.times_N is None else self.times_N[events_N],
            context_NF=None if self.context_NF is None else self.context_NF[events_N],
        )

    def batch(self, rows_B: np.ndarray, max_length: int) -> Batch:
        """The latest `max_length` events of some of them."""
        ends_B = self.ends_R[rows_B]
        starts_B = np.maximum(self.starts_R[rows_B], ends_B - max_length)
        lengths_B = ends_B - starts_B
        return Batch(
            users_B=_tensor(self.users_R[rows_B]),
            items_BL=padded_rows(self.items_N, starts_B, lengths_B),
            lengths_B=_tensor(lengths_B),
            times_BL=None if self.times_N is None else padded_rows(self.times_N, starts_B, lengths_B),
            request_times_B=None if self.asked_at_R is None else _tensor(self.asked_at_R[rows_B]),
            context_BF=None if self.context_RF is None else _tensor(self.context_RF[rows_B]),
            context_BLF=None if self.context_NF is None else padded_rows(self.context_NF, starts_B, lengths_B),
        )

    def by_length(self, max_length: int, batch_size: int) -> Iterator[np.ndarray]:
        """Rows [B] of batches of like length, longest first so that memory peaks at once."""
        order_R = np.argsort(-np.minimum(self.ends_R - self.starts_R, max_length), kind="stable")
        for first in range(0, len(order_R), batch_size):
            yield order_R[first : first + batch_size]

    def only(self, row: int) -> "Histories":
        """One of them, with no other one's events."""
        return self.some(np.array([row])).own()

    def some(self, rows_B: np.ndarray) -> "Histories":
        """Some of them; the flat arrays stay as they are."""
        return replace(
            self,
            users_R=self.users_R[rows_B],
            starts_R=self.starts_R[rows_B],
            ends_R=self.ends_R[rows_B],
            asked_at_R=None if self.asked_at_R is None else self.asked_at_R[rows_B],
            context_RF=None if self.context_RF is None else self.context_RF[rows_B],
        )

    def seen(self, rows_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(indices into `rows_B`, items), each [M]: every event of the whole histories, not of the window alone."""
        lengths_B = (self.ends_R - self.starts_R)[rows_B]
        events_M = ragged_ranges(self.starts_R[rows_B], lengths_B)
        return np.repeat(np.arange(len(rows_B)), lengths_B), self.items_N[events_M].astype(np.int64)


def logged_histories(log: PackedLog, rows_R: np.ndarray) -> Histories:
    """All events of these user rows, asked about at the last one's time and in its context."""
    ends_R = log.offsets_U1[rows_R + 1]
    return _histories(log, rows_R, ends_R, asked_R=np.asarray(ends_R - 1))


def held_out_histories(log: PackedLog, targets: Targets) -> Histories:
    """The histories of held-out requests, asked about at the next event's time and in its context."""
    ends_R = np.asarray(targets.ends_R)
    return _histories(log, np.asarray(targets.rows_R), ends_R, asked_R=ends_R)


def _histories(log: PackedLog, rows_R: np.ndarray, ends_R: np.ndarray, *, asked_R: np.ndarray) -> Histories:
    """The events of user rows before absolute positions `ends_R`, asked about as the events at `asked_R` were."""
    starts_R = log.offsets_U1[rows_R]
    asked_at_R = None if log.times_N is None else log.times_N[asked_R]
    context_RF, context_NF = contexts(log, asked_R), log.context_NF
    items_N, times_N = log.items_N, log.times_N
    if log.time_context:  # which is worked out: for these events alone
        events_M = ragged_ranges(starts_R, ends_R - starts_R)
        items_N, context_NF = items_N[events_M], contexts(log, events_M)
        times_N = None if times_N is None else times_N[events_M]
        ends_R = np.cumsum(ends_R - starts_R)
        starts_R = np.concatenate([[0], ends_R[:-1]]).astype(np.int64)
    return Histories(rows_R + 1, items_N, starts_R, ends_R, times_N, asked_at_R, context_RF, context_NF)


def joined(parts: Sequence[Histories]) -> Histories:
    """Several in one, in their order. Times, the moments asked at, and contexts are left out unless every part has
    them."""

    def column(name: str) -> np.ndarray | None:
        columns = [getattr(part, name) for part in parts]
        return None if any(values is None for values in columns) else np.concatenate(columns)

    firsts = np.cumsum([0, *(len(part.items_N) for part in parts)])[:-1]
    return Histories(
        np.concatenate([part.users_R for part in parts]),
        np.concatenate([part.items_N for part in parts]),
        np.concatenate([part.starts_R + first for part, first in zip(parts, firsts, strict=True)]),
        np.concatenate([part.ends_R + first for part, first in zip(parts, firsts, strict=True)]),
        column("times_N"),
        column("asked_at_R"),
        column("context_RF"),
        column("context_NF"),
    )


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, np.int64))
