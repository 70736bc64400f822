"""One `Batch` for every model: carried from loader to metric.

Legend: B rows (users), L history events, N targets, M the most targets of a row, C candidates, K negatives, F context
attributes (those of `Catalog.context_attributes`, in their order; 0 is absent). Rows are padded with 0 on the right, to
the longest of their own batch. Users count from 1 (0 is unknown), items from 1 (0 is padding); an event that is to be
guessed (cloze) has the item MASKED.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.data.sizes import padded_length

MASKED = -1
BY_EVENT = (
    *("items_BL", "times_BL", "targets_BL", "weights_BL", "presence_BL", "redrawn_BL"),
    *("negatives_BLK", "negative_places_BLK", "context_BLF", "soft_items_BLK", "soft_shares_BLK"),
)


@dataclass(frozen=True)
class Batch:
    """Tensors of one step; what a step does not need is None. All int64 but labels, weights, presence and shares
    (float32).

    Those named `host_` stay in the host's memory when the others go to a GPU, so that reading them never waits for it.
    """

    users_B: Tensor
    items_BL: Tensor
    lengths_B: Tensor
    times_BL: Tensor | None = None  # seconds
    targets_BL: Tensor | None = None  # the item to predict at every position, 0 where there is none
    positions_N: Tensor | None = None  # the targets' positions in the flattened [B * L], ascending
    read_users_B: Tensor | None = None  # training: whose own vectors are read; None: those of `users_B`
    redrawn_BL: Tensor | None = None  # float: where another event is to be drawn, by which chance; else -1
    masked_BM: Tensor | None = None  # cloze: columns of the targets, ascending; L where a row has fewer than M
    presence_BL: Tensor | None = None  # float: how much of each event's item vector is read; None: all (attributions)
    negatives_BLK: Tensor | None = None  # unseen in training, for every event; or L is 1: for the whole row
    negative_places_BLK: Tensor | None = None  # where the objective remembers each negative's vector; -1: nowhere
    soft_items_BLK: Tensor | None = None  # that a teacher ranks first for every target; or L is 1: for the last one
    soft_shares_BLK: Tensor | None = None  # float: of its distribution
    candidates_BC: Tensor | None = None
    labels_BC: Tensor | None = None
    weights_BL: Tensor | None = None  # of the targets; None: all count alike
    weights_BC: Tensor | None = None  # of the candidates
    ends_BC: Tensor | None = None  # how many of the row's events precede each candidate; None: all of them
    request_times_B: Tensor | None = None  # when the prediction is asked for (the last target's own time)
    context_BF: Tensor | None = None  # the request's context; None where the catalog has no context attributes
    context_BLF: Tensor | None = None  # of the history's events, 0 past each row's end
    context_BCF: Tensor | None = None  # each candidate's request's own, instead of `context_BF`, in rows with `ends_BC`
    host_lengths_B: Tensor | None = None
    host_taught_B: Tensor | None = None  # predictions of each row that the loss learns from: targets, else candidates

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        moving = [f.name for f in fields(self) if not f.name.startswith("host_")]
        present = {name: t for name in moving if (t := getattr(self, name)) is not None}
        return replace(self, **{name: to_device(tensor, device) for name, tensor in present.items()})

    @property
    def mask_BL(self) -> Tensor:
        """True at real events."""
        return torch.arange(self.items_BL.shape[1], device=self.items_BL.device) < self.lengths_B[:, None]

    @property
    def own_users_B(self) -> Tensor:
        """Whose own vectors the rows read."""
        return self.users_B if self.read_users_B is None else self.read_users_B

    def present(self, events_BLD: Tensor) -> Tensor:
        """What a model reads of its events' item vectors: all of them, or so much of each as `presence_BL` says."""
        if self.presence_BL is None:
            return events_BLD
        return events_BLD * self.presence_BL[..., None].to(events_BLD.dtype)

    def target_positions(self) -> Tensor:
        """`positions_N`, or found in `targets_BL` (a GPU then has to be waited for)."""
        if self.positions_N is not None:
            return self.positions_N
        assert self.targets_BL is not None
        return self.targets_BL.flatten().nonzero().squeeze(1)

    def target_columns(self) -> Tensor:
        """`masked_BM`, or found in `targets_BL` (a GPU then has to be waited for)."""
        if self.masked_BM is not None:
            return self.masked_BM
        assert self.targets_BL is not None
        L = self.items_BL.shape[1]
        columns_L = torch.arange(L, device=self.items_BL.device)
        sorted_BL = columns_L.where(self.targets_BL > 0, L).sort(dim=1).values
        return sorted_BL[:, : max(1, int((sorted_BL < L).any(dim=0).sum()))]

    def rows(self, first: int, last: int, width: int | None = None) -> "Batch":
        """Rows `first` to `last` - 1 with the targets that are theirs, and their first `width` events (None: all).

        A GPU is waited for where the batch knows positions of targets, but not on the host how many each row has.
        """
        every = {
            f.name: t[first:last]
            for f in fields(self)
            if f.name != "positions_N" and (t := getattr(self, f.name)) is not None
        }
        L = self.items_BL.shape[1]
        width = L if width is None else width
        for name in BY_EVENT:
            if name in every and every[name].shape[1] == L:
                every[name] = every[name][:, :width]
        if self.masked_BM is not None:
            every["masked_BM"] = every["masked_BM"].clamp(max=width)
        if self.positions_N is not None:
            if self.host_taught_B is None:
                of_rows_N = self.positions_N[(self.positions_N >= first * L) & (self.positions_N < last * L)]
            else:  # they ascend
                before = int(self.host_taught_B[:first].sum())
                of_rows_N = self.positions_N[before : before + int(every["host_taught_B"].sum())]
            of_rows_N = of_rows_N - first * L
            every["positions_N"] = of_rows_N.div(L, rounding_mode="floor") * width + of_rows_N % L
        return replace(self, **every)

    def part(self, first: int, last: int) -> "Batch":
        """Rows `first` to `last` - 1, as wide as `padded_length` says of them.

        A GPU is waited for where the batch does not know its lengths on the host.
        """
        lengths_B = self.lengths_B if self.host_lengths_B is None else self.host_lengths_B
        return self.rows(first, last, padded_length(int(lengths_B[first:last].max()), self.items_BL.shape[1]))

    def parts(self, tokens: int) -> list["Batch"]:
        """The batch in parts of at most `tokens` padded events each (but one row at least): the fewer, the closer its
        rows are to an order of their lengths. Each knows on the host what its rows have."""
        batch = self
        if self.host_lengths_B is None or self.host_taught_B is None:
            batch = replace(self, host_lengths_B=self.lengths_B.cpu(), host_taught_B=_taught(self).cpu())
        return [batch.part(first, last) for first, last in part_bounds(self.lengths(), tokens)]

    def most_of_a_part(self, tokens: int) -> "Batch":
        """As many of the first rows as fit in `tokens`: `parts` may make even its largest part smaller."""
        return self.part(*_filled(self.lengths(), tokens)[0])

    def lengths(self) -> list[int]:
        """Of the rows. A GPU is waited for where they are not known on the host."""
        lengths_B = self.lengths_B if self.host_lengths_B is None else self.host_lengths_B
        found: list[int] = lengths_B.tolist()
        return found

    def __len__(self) -> int:
        return self.items_BL.shape[0]


def count_targets(batch: Batch) -> int:
    """Predictions a batch teaches: positions with a target, else candidates, else rows.

    With neither `positions_N` nor `host_taught_B` it looks into the batch: call it on the host's copy.
    """
    if batch.positions_N is not None:
        return len(batch.positions_N)
    return int((_taught(batch) if batch.host_taught_B is None else batch.host_taught_B).sum())


def _taught(batch: Batch) -> Tensor:
    """Predictions of each row, counted in the batch."""
    taught = batch.targets_BL if batch.targets_BL is not None else batch.candidates_BC
    return torch.ones_like(batch.lengths_B) if taught is None else torch.count_nonzero(taught, dim=1)


def part_bounds(lengths: Sequence[int], tokens: int | None) -> list[tuple[int, int]]:
    """First row and last row + 1 of each part of a batch with rows of these lengths (tokens=None: one part).

    There are as few parts as possible, and the largest is as small as possible: a small last part costs more than its
    share of the time.
    """
    bounds = _filled(lengths, tokens)
    if tokens is None or len(bounds) == 1:
        return bounds
    least, most = tokens // 2, tokens  # of two parts that follow each other one holds more than half
    while least < most:
        middle = (least + most) // 2
        if len(_filled(lengths, middle)) > len(bounds):
            least = middle + 1
        else:
            most = middle
    return _filled(lengths, most)


def _filled(lengths: Sequence[int], tokens: int | None) -> list[tuple[int, int]]:
    """Parts filled one after another, each with as many rows as fit."""
    bounds, first, longest, widest = [], 0, 0, max(lengths, default=1)
    for row, length in enumerate(lengths):
        width = padded_length(length, widest)
        longest = max(longest, width)
        if tokens is not None and row > first and (row + 1 - first) * longest > tokens:
            bounds.append((first, row))
            first, longest = row, width
    return [*bounds, (first, len(lengths))]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on another device, without waiting for it to arrive: to a GPU from pinned memory."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    sure = device.type not in ("cpu", "mps", "xpu")  # on those a copy may be read before it is whole
    return tensor.to(device, non_blocking=sure)


def padded_rows(
    flat_N: np.ndarray | Tensor, starts_B: np.ndarray, lengths_B: np.ndarray, *, dtype: torch.dtype = torch.int64
) -> Tensor:
    """Rows `flat[start:start+length]` as one right-padded tensor [B, longest, ...], by one whole-array index.

    They are on the device of `flat_N`: a log kept on a GPU gives batches there, without waiting for the host.
    """
    flat_N = torch.from_numpy(flat_N) if isinstance(flat_N, np.ndarray) else flat_N
    starts_B1, lengths_B1 = (
        to_device(torch.from_numpy(np.asarray(x, np.int64)), flat_N.device)[:, None] for x in (starts_B, lengths_B)
    )
    columns_L = torch.arange(max(int(lengths_B.max(initial=0)), 1), device=flat_N.device)
    index_BL = (starts_B1 + columns_L).clamp_(max=len(flat_N) - 1)
    padding_BL = columns_L >= lengths_B1
    return flat_N[index_BL].to(dtype).masked_fill_(padding_BL if flat_N.dim() == 1 else padding_BL[..., None], 0)
