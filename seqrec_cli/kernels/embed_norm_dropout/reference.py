"""dropout(norm(item vector + position vector)) in torch's operators, with zeros behind the last event."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.kernels.dropout.reference import apply_by_row


def reference(
    items_P: Tensor,
    positions_P: Tensor,
    table_VD: Tensor,
    mask_D: Tensor,
    table_TD: Tensor | None,
    scale_D: Tensor | None,
    shift_D: Tensor | None,
    epsilon: float,
    size: int,
    seed: int,
    levels: int,
    low: torch.dtype,
) -> tuple[Tensor]:
    x_PD = torch.where(items_P[:, None] < 0, mask_D, nn.functional.embedding(items_P.clamp(min=0), table_VD))
    if table_TD is not None:
        x_PD = x_PD + nn.functional.embedding(positions_P, table_TD)
    if scale_D is not None:
        x_PD = nn.functional.layer_norm(x_PD, scale_D.shape, scale_D, shift_D, epsilon)
    return (nn.functional.pad(apply_by_row(x_PD, seed, levels), (0, 0, 0, size - len(items_P))),)


def examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    for width in (1, 5, 36, 72, 200):
        items_P, positions_P = torch.randint(1, 40, (131,)), torch.randint(0, 9, (131,))
        items_P[torch.rand(131) < 0.2] = -1
        table_VD, mask_D, table_TD = torch.randn(40, width), torch.randn(width), torch.randn(9, width)
        norm = 1 + 0.3 * torch.randn(width), torch.randn(width)
        yield items_P, positions_P, table_VD, mask_D, table_TD, *norm, 1e-5, 140, -(2**61), 64, dtype
        yield items_P, positions_P, table_VD, mask_D, None, None, None, 0.0, 131, 0, 0, dtype
    nothing_P = torch.zeros(0, dtype=torch.int64)
    yield nothing_P, nothing_P, torch.randn(4, 8), torch.randn(8), None, None, None, 0.0, 1, 0, 0, dtype
