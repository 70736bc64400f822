"""Histories laid end to end: one row of all events of a batch, without padding, in which no event sees another history.

What works on each event alone (norms, linear layers, losses) runs on the row as it is. What looks from event to event
(`PackedRows.each`) runs on the blocks of the diagonal: histories of like length that follow each other are one tensor
[b, l, D], cut out of the row, padded to the longest of them, and joined again. That is attention under a
block-diagonal causal mask, product for product, and what is outside the blocks costs nothing; it needs no kernel but
those of padded rows, so it is the same on a CPU and a GPU, in fp32 and bf16, with rotations, learned biases and dropout
of the weights. What torch 2.11 and 2.13 have beside was not tried: a mask of the whole row costs its square,
`flex_attention` runs under torch.compile alone and without dropout of the weights, nested tensors take no learned bias.

Positions begin anew with each history. Rows may come in any order; longest first, as batches have them, gives the
fewest groups.

Legend: B rows (histories) of a batch, L its width, P packed events, b rows of a group, l its width, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqrec_cli.data.batch import Batch, to_device

# What padding may add to a group of rows before another group is worth its overhead, in pairs of positions (a padded
# event costs its linear layers too, as much as 1.5 D pairs); a GPU's launches cost more of its time.
WASTE, WASTE_ON_GPU = 1 << 16, 1 << 24
PAIRS_AN_EVENT = 100


class Group(NamedTuple):
    """Rows `first` to `last` - 1, `width` wide at most."""

    first: int
    last: int
    width: int
    events: int
    places_N: Tensor | None  # where their events stand in the flattened [b l]; None: everywhere, rows are as long


@dataclass(frozen=True)
class PackedRows:
    """Where the events of a batch's rows stand in the packed row, and which rows are worked on together."""

    places_P: Tensor  # of the flattened [B L], by packed position
    rows_P: Tensor  # the row of each
    starts_B: Tensor  # the packed position of each row's first event
    width: int  # L
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, batch: Batch) -> "PackedRows":
        """Of a batch of histories. A GPU is waited for where the batch does not know their lengths on the host."""
        device, (B, L) = batch.items_BL.device, batch.items_BL.shape
        lengths_B = (batch.lengths_B if batch.host_lengths_B is None else batch.host_lengths_B).cpu()
        rows_P = torch.arange(B).repeat_interleave(lengths_B)
        starts_B = lengths_B.cumsum(0) - lengths_B
        within_P = torch.arange(len(rows_P)) - starts_B[rows_P]
        waste = WASTE if device.type == "cpu" else WASTE_ON_GPU
        groups = []
        for first, last in alike(lengths_B.tolist(), waste):
            of_N = slice(int(starts_B[first]), int(starts_B[last - 1] + lengths_B[last - 1]))
            width, events = max(1, int(lengths_B[first:last].max())), of_N.stop - of_N.start
            places_N = None
            if events < width * (last - first):
                places_N = to_device((rows_P[of_N] - first) * width + within_P[of_N], device)
            groups.append(Group(first, last, width, events, places_N))
        return cls(
            places_P=to_device(rows_P * L + within_P, device),
            rows_P=to_device(rows_P, device),
            starts_B=to_device(starts_B, device),
            width=L,
            groups=tuple(groups),
        )

    def pick(self, x_BL: Tensor) -> Tensor:
        """Of [B, L, ...] what stands at the events, [P, ...]."""
        return x_BL.flatten(0, 1).index_select(0, self.places_P)

    def of_rows(self, x_B: Tensor) -> Tensor:
        """Of [B, ...] what belongs to each event's row, [P, ...]."""
        return x_B.index_select(0, self.rows_P)

    def index(self, positions_N: Tensor) -> Tensor:
        """Where events of the flattened [B L] stand in the packed row."""
        return self.starts_B[positions_N // self.width] + positions_N % self.width

    def each(self, function: Callable[..., Tensor], *packed: Tensor) -> Tensor:
        """`function(group, *tensors [b, l, ...])` -> [b, l, ...] of every group, joined to [P, ...]; `packed` are
        [P, ...], zeros at padding. What the function gives at padding is left out, and so is its gradient."""
        sizes = [group.events for group in self.groups]
        parts: list[Sequence[Tensor]] = [x.split(sizes) for x in packed]
        found = []
        for group, *given in zip(self.groups, *parts, strict=True):
            found.append(_joined(function(group, *(_cut(x, group) for x in given)), group))
        return found[0] if len(found) == 1 else torch.cat(found)


def alike(lengths: Sequence[int], waste: int) -> list[tuple[int, int]]:
    """First and last + 1 of runs of rows, each as long as padding adds at most `waste` to its cost."""
    bounds, first, widest, needed = [], 0, 0, 0
    for row, length in enumerate(lengths):
        widest, needed = max(widest, length), needed + _cost(length)
        if row > first and (row + 1 - first) * _cost(widest) - needed > waste:
            bounds.append((first, row))
            first, widest, needed = row, length, _cost(length)
    return [*bounds, (first, len(lengths))]


def _cost(length: int) -> int:
    return length * (length + PAIRS_AN_EVENT)


def _cut(x_N: Tensor, group: Group) -> Tensor:
    shape = (group.last - group.first, group.width, *x_N.shape[1:])
    if group.places_N is None:
        return x_N.reshape(shape)
    rows: Tensor = _ToRows.apply(x_N, group.places_N, shape[0] * shape[1])
    return rows.view(shape)


def _joined(x_bl: Tensor, group: Group) -> Tensor:
    flat = x_bl.flatten(0, 1)
    if group.places_N is None:
        return flat
    joined: Tensor = _FromRows.apply(flat, group.places_N)
    return joined


class _ToRows(torch.autograd.Function):
    """To places of a longer tensor of zeros: copies both ways, where torch's own gradients are sums."""

    @staticmethod
    def forward(ctx: Any, x_N: Tensor, places_N: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(places_N)
        return x_N.new_zeros((size, *x_N.shape[1:])).index_copy_(0, places_N, x_N)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0].index_select(0, *ctx.saved_tensors), None, None


class _FromRows(torch.autograd.Function):
    """And back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places_N: Tensor) -> Tensor:
        ctx.save_for_backward(places_N)
        ctx.shape = x.shape
        return x.index_select(0, places_N)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (places_N,) = ctx.saved_tensors
        return grads[0].new_zeros(ctx.shape).index_copy_(0, places_N, grads[0]), None
