"""Heads cut from a layer's output plus its bias, and joined again, in torch's operators."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from seqrec_cli.kernels.split_heads.packing import Packing

LENGTHS_B = torch.tensor([20, 1, 0, 7, 19, 20])


def split_reference(
    x: Tensor, bias: Tensor, heads: int, parts: int, rows: int, steps: int, starts: Tensor | None
) -> tuple[Tensor, ...]:
    x = x + bias
    if starts is not None:
        x = Packing(starts, (rows, steps), len(x)).unpack(x)
    return tuple(part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in x.chunk(parts, dim=-1))


def join_reference(x_BHLd: Tensor, size: int, starts: Tensor | None) -> Tensor:
    B, _, L, _ = x_BHLd.shape
    joined = x_BHLd.transpose(1, 2).flatten(2)
    return joined if starts is None else Packing(starts, (B, L), size).pack(joined)


def split_examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    for heads, width, parts in ((1, 1, 1), (2, 5, 2), (4, 16, 3), (2, 18, 3), (1, 64, 2)):
        channels = parts * heads * width
        yield torch.randn(3, 47, channels).to(dtype), torch.randn(channels), heads, parts, 3, 47, None
        packing = Packing.of(LENGTHS_B, 20, step=32)
        given = heads, parts, 6, 20, packing.starts_B1
        yield torch.randn(packing.size, channels).to(dtype), torch.randn(channels), *given


def join_examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    packing = Packing.of(LENGTHS_B, 20, step=32)
    for heads, width in ((1, 1), (2, 5), (4, 16), (4, 50)):
        x_BHLd = torch.randn(6, heads, 20, width).to(dtype)
        yield x_BHLd, 0, None
        yield x_BHLd.transpose(2, 3).contiguous().transpose(2, 3), packing.size, packing.starts_B1
