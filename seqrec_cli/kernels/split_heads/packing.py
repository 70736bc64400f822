"""Rows without their padding, one behind another: what a transformer's layers read where only attention needs rows.

Legend: B rows, L positions, P packed positions, D width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where B rows' first positions, as many as each row has, stand in [P, D]; P is filled up behind the last."""

    starts_B1: Tensor  # int64 [B + 1], on the host: where each row begins, and where the last one ends
    shape: tuple[int, int]  # B and L
    size: int  # P

    @classmethod
    def of(cls, lengths_B: Tensor, width: int, step: int) -> "Packing":
        """Of rows at most `width` long, on the host; P is a multiple of `step`."""
        starts_B1 = torch.nn.functional.pad(lengths_B.cumsum(0), (1, 0))
        return cls(starts_B1, (len(lengths_B), width), -(-max(int(starts_B1[-1]), 1) // step) * step)

    def positions(self) -> Tensor:
        """Which of the flattened [B L] are packed, in their order; without what fills P up."""
        return (torch.arange(self.shape[1]) < self.starts_B1.diff()[:, None]).flatten().nonzero().squeeze(1)

    def pick(self, x_BL: Tensor) -> Tensor:
        """The numbers [B, L] at the packed positions, and no more than these."""
        return x_BL.reshape(-1)[self.positions()]

    def pack(self, x_BLD: Tensor) -> Tensor:
        """[P, D], zeros behind the last row."""
        packed: Tensor = _Pack.apply(x_BLD, self)
        return packed

    def unpack(self, x_PD: Tensor) -> Tensor:
        """[B, L, D], zeros at padding."""
        positions_N = self.positions()
        flat = x_PD.new_zeros((self.shape[0] * self.shape[1], x_PD.shape[-1]))
        return flat.index_copy(0, positions_N, x_PD[: len(positions_N)]).view(*self.shape, -1)

    def index(self, positions: Tensor) -> Tensor:
        """Where positions in the flattened [B L] are packed; those that are not: anywhere in [0, P)."""
        L = self.shape[1]
        return (self.starts_B1[positions // L] + positions % L).clamp_(max=self.size - 1)


class _Pack(torch.autograd.Function):
    """An index_select whose results are written in place, before the padding behind them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packing: Packing) -> Tensor:
        ctx.shape, ctx.positions_N = x.shape, packing.positions()
        packed = x.new_zeros((packing.size, x.shape[-1]))
        torch.index_select(x.flatten(0, 1), 0, ctx.positions_N, out=packed[: len(ctx.positions_N)])
        return packed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        grad_x = grads[0].new_zeros(ctx.shape)
        grad_x.flatten(0, 1).index_copy_(0, ctx.positions_N, grads[0][: len(ctx.positions_N)])
        return grad_x, None
