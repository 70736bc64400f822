"""Rows without their padding, one behind another: what a transformer's layers read where only attention needs rows.

Legend: B rows, L positions, P packed positions, D width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqrec_cli.data.sizes import PACKED_STEP, common_size


@dataclass(frozen=True)
class Packing:
    """Where B rows' first positions, as many as each counts, stand in [P, D]; P is filled up behind the last."""

    starts_B1: Tensor  # int64 [B + 1], on the host: where each row begins, and where the last one ends
    shape: tuple[int, int]  # B and L
    size: int  # P

    @classmethod
    def of(cls, lengths_B: Tensor, width: int, padded: bool) -> "Packing":
        """Of rows at most `width` long, on the host; `padded`: P is a `common_size`."""
        starts_B1 = torch.nn.functional.pad(lengths_B.cumsum(0), (1, 0))
        count = max(int(starts_B1[-1]), 1)
        size = common_size(count, PACKED_STEP, lengths_B.device) if padded else count
        return cls(starts_B1, (len(lengths_B), width), size)

    def places(self) -> Tensor:
        """Which of the flattened [B L] are packed, in their order; without what fills P up."""
        return (torch.arange(self.shape[1]) < self.starts_B1.diff()[:, None]).flatten().nonzero().squeeze(1)

    def pick(self, x_BL: Tensor) -> Tensor:
        """The packed places' of numbers [B, L]; no more than these."""
        return x_BL.reshape(-1)[self.places()]

    def pack(self, x_BLD: Tensor) -> Tensor:
        """[P, D], zeros behind the last row."""
        packed: Tensor = _Pack.apply(x_BLD, self)
        return packed

    def at(self, places: Tensor) -> Tensor:
        """Where places in the flattened [B L] are packed; those that are not: anywhere in [0, P)."""
        L = self.shape[1]
        return (self.starts_B1[places // L] + places % L).clamp_(max=self.size - 1)


class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, packing: Packing) -> Tensor:
        ctx.shape, ctx.positions_N = x.shape, packing.places()
        packed = x.new_zeros((packing.size, x.shape[-1]))
        torch.index_select(x.flatten(0, 1), 0, ctx.positions_N, out=packed[: len(ctx.positions_N)])
        return packed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        of_x = gradients[0].new_zeros(ctx.shape)
        of_x.flatten(0, 1).index_copy_(0, ctx.positions_N, gradients[0][: len(ctx.positions_N)])
        return of_x, None
