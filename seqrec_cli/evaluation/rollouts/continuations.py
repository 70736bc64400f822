"""Requests whose next n events are held out, and histories that grow by an event a step.

Legend: R requests, B rows of a block, L history events a model is given, W columns kept (L + n), n steps, F context
attributes, V items.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch, padded_rows
from seqrec_cli.data.context import contexts, of_times
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.splits import view_of
from seqrec_cli.data.view import HeldOut


@dataclass(frozen=True)
class Continuations:
    """User rows, where their histories end, and the n items that followed.

    Of a protocol that removes seen items a target that repeats its history, or an earlier target, cannot be found; it
    is 0 and counts as missed by nobody.
    """

    rows_R: np.ndarray
    ends_R: np.ndarray
    targets_Rn: np.ndarray

    def at(self, which_R: np.ndarray) -> "Continuations":
        """Some of them."""
        return Continuations(self.rows_R[which_R], self.ends_R[which_R], self.targets_Rn[which_R])


def continuations(log: PackedLog, split: HeldOut, *, steps: int, users: int | None) -> Continuations:
    """Each user's first held-out request with `steps` held-out events from there on; at most so many users.

    Raises SeqrecError where nobody has so many.
    """
    view = view_of(log)
    targets = view.targets(split)
    rows_R, first_R = np.unique(targets.rows_R, return_index=True)
    ends_R = np.minimum.reduceat(targets.ends_R, first_R) if len(first_R) else targets.ends_R
    held_until_R = _held_until(log, split, rows_R)
    left_R = held_until_R - np.maximum(ends_R, np.asarray(view.train_U)[rows_R])
    enough_R = (left_R >= steps) & (np.asarray(view.train_U)[rows_R] <= ends_R)
    if not enough_R.any():
        raise SeqrecError(
            f"steps={steps}: no user of split={split} has so many held-out events in a row (at most "
            f"{max(int(left_R.max(initial=0)), 0)}); train under protocol=last_k protocol.k={steps}"
        )
    rows_R, ends_R = rows_R[enough_R], ends_R[enough_R]
    if users is not None and users < len(rows_R):
        picked = np.sort(np.random.default_rng(0).permutation(len(rows_R))[:users])
        rows_R, ends_R = rows_R[picked], ends_R[picked]
    targets_Rn = np.asarray(log.items_N[ends_R[:, None] + np.arange(steps)], np.int64)
    if view.seen == "remove":
        targets_Rn = _without_repeats(log, Continuations(rows_R, ends_R, targets_Rn))
    return Continuations(rows_R, ends_R, targets_Rn)


def _held_until(log: PackedLog, split: HeldOut, rows_R: np.ndarray) -> np.ndarray:
    """Where each user's held-out events of the split end: validation ends where the test begins."""
    ends_R = np.asarray(log.offsets_U1)[rows_R + 1].copy()
    if split == "val":
        test = view_of(log).test
        begins_U = np.asarray(log.offsets_U1)[1:].copy()
        if len(test.positions_T):
            np.minimum.at(begins_U, test.rows_R[test.requests_T], test.positions_T)
        ends_R = begins_U[rows_R]
    return ends_R


def _without_repeats(log: PackedLog, asked: Continuations) -> np.ndarray:
    """The targets, 0 for those that the history, or an earlier step, has."""
    rows_R, ends_R, targets_Rn = asked.rows_R, asked.ends_R, asked.targets_Rn
    starts_R = np.asarray(log.offsets_U1)[rows_R]
    lengths_R = ends_R - starts_R
    requests_N = np.repeat(np.arange(len(rows_R)), lengths_R)
    columns = np.int64(log.num_items + 1)
    history_N = np.unique(requests_N * columns + np.asarray(log.items_N[ragged_ranges(starts_R, lengths_R)]))
    keys_Rn = np.arange(len(rows_R))[:, None] * columns + targets_Rn
    found = np.isin(keys_Rn, history_N)
    for step in range(1, targets_Rn.shape[1]):
        found[:, step] |= (targets_Rn[:, :step] == targets_Rn[:, step : step + 1]).any(axis=1)
    return np.where(found, 0, targets_Rn)


class Growing:
    """Histories of a block of rows, to which each step adds an item.

    An added event happens a median gap of its own history after the last one, and is asked for at that time: the
    moment of the true event is nobody's to know. Logged context (a device) stays that of the last event.
    """

    def __init__(
        self,
        users_B: Tensor,
        items_BW: Tensor,
        lengths_B: Tensor,
        *,
        times_BW: Tensor | None,
        gaps_B: Tensor | None,
        context_BF: Tensor | None,
        time_context: tuple[str, ...],
    ) -> None:
        self.users_B, self.items_BW, self.lengths_B = users_B, items_BW, lengths_B
        self.times_BW, self.gaps_B, self.context_BF = times_BW, gaps_B, context_BF
        self._time_context = time_context

    @classmethod
    def of(cls, log: PackedLog, asked: Continuations, *, max_length: int, steps: int, device: torch.device) -> Self:
        starts_B = np.maximum(asked.ends_R - max_length, np.asarray(log.offsets_U1)[asked.rows_R])
        lengths_B = asked.ends_R - starts_B

        def columns(flat_N: np.ndarray) -> Tensor:
            rows_BL = padded_rows(flat_N, starts_B, lengths_B)
            return torch.nn.functional.pad(rows_BL, (0, steps)).to(device)

        times_BW = gaps_B = None
        if log.times_N is not None:
            times_BW = columns(log.times_N)
            gaps_B = torch.from_numpy(_median_gaps(np.asarray(log.times_N), starts_B, lengths_B)).to(device)
        context_BF = contexts(log, np.maximum(asked.ends_R - 1, 0))
        return cls(
            torch.from_numpy(np.asarray(asked.rows_R + 1, np.int64)).to(device),
            columns(log.items_N),
            torch.from_numpy(np.asarray(lengths_B, np.int64)).to(device),
            times_BW=times_BW,
            gaps_B=gaps_B,
            context_BF=None if context_BF is None else torch.from_numpy(context_BF).to(device),
            time_context=log.time_context,
        )

    def __len__(self) -> int:
        return len(self.users_B)

    def _next_times(self) -> Tensor | None:
        if self.times_BW is None or self.gaps_B is None:
            return None
        last_B = self.times_BW.gather(1, (self.lengths_B - 1).clamp(min=0)[:, None])[:, 0]
        return last_B + self.gaps_B

    def batch(self, max_length: int) -> Batch:
        """The latest `max_length` events of every row."""
        starts_B = (self.lengths_B - max_length).clamp(min=0)
        kept_B = self.lengths_B - starts_B
        columns_L = torch.arange(max(int(kept_B.max()), 1), device=kept_B.device)
        index_BL = (starts_B[:, None] + columns_L).clamp(max=self.items_BW.shape[1] - 1)
        padding_BL = columns_L >= kept_B[:, None]
        asked_B, context_BF = self._next_times(), self.context_BF
        if context_BF is not None and self._time_context and asked_B is not None:
            moments_BF = torch.from_numpy(of_times(self._time_context, asked_B.cpu().numpy())).to(context_BF.device)
            context_BF = torch.cat([context_BF[:, : -moments_BF.shape[1]], moments_BF], dim=1)
        return Batch(
            users_B=self.users_B,
            items_BL=self.items_BW.gather(1, index_BL).masked_fill(padding_BL, 0),
            lengths_B=kept_B,
            times_BL=None if self.times_BW is None else self.times_BW.gather(1, index_BL).masked_fill(padding_BL, 0),
            request_times_B=asked_B,
            context_BF=context_BF,
        )

    def append(self, items_B: Tensor) -> None:
        """One more event in every row."""
        asked_B, end_B1 = self._next_times(), self.lengths_B[:, None]
        self.items_BW = self.items_BW.scatter(1, end_B1, items_B[:, None])
        if self.times_BW is not None and asked_B is not None:
            self.times_BW = self.times_BW.scatter(1, end_B1, asked_B[:, None])
        self.lengths_B = self.lengths_B + 1

    def picked(self, rows: Tensor) -> "Growing":
        """These rows, each as often as it is named."""

        def of_rows(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.index_select(0, rows)

        return Growing(
            self.users_B.index_select(0, rows),
            self.items_BW.index_select(0, rows),
            self.lengths_B.index_select(0, rows),
            times_BW=of_rows(self.times_BW),
            gaps_B=of_rows(self.gaps_B),
            context_BF=of_rows(self.context_BF),
            time_context=self._time_context,
        )


def _median_gaps(times_N: np.ndarray, starts_B: np.ndarray, lengths_B: np.ndarray) -> np.ndarray:
    """The median time between neighbours of each history, int64; that of all rows where a history has one event."""
    rows = np.repeat(np.arange(len(starts_B)), np.maximum(lengths_B - 1, 0))
    positions = ragged_ranges(starts_B + 1, np.maximum(lengths_B - 1, 0))
    gaps = times_N[positions] - times_N[positions - 1]
    order = np.lexsort((gaps, rows))
    counts_B = np.maximum(lengths_B - 1, 0)
    firsts_B = np.cumsum(counts_B) - counts_B
    sorted_gaps = np.append(gaps[order], 0)
    middles_B = np.minimum(firsts_B + counts_B // 2, len(sorted_gaps) - 1)
    typical = int(np.median(gaps)) if len(gaps) else 0
    return np.where(counts_B > 0, sorted_gaps[middles_B], typical).astype(np.int64)
