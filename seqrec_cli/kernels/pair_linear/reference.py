"""A linear layer over pairs of events and candidates in torch's operators, by one matrix a candidate."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def reference(
    events_BLF: Tensor, candidates: Tensor, shifts: Tensor, w_event_FM: Tensor, w_product_FM: Tensor
) -> Tensor:
    w_event, w_product = (x.to(candidates.dtype)[:, None] for x in (w_event_FM, w_product_FM))
    matrices = torch.addcmul(w_event, w_product, candidates.transpose(-1, -2)[..., None])
    matrices = torch.cat([matrices, shifts[..., None, :, :].to(matrices.dtype)], dim=-3)
    return (with_one(events_BLF) @ matrices.flatten(-2)).unflatten(-1, matrices.shape[-2:])


def with_one(events_BLF: Tensor) -> Tensor:
    return nn.functional.pad(events_BLF, (0, 1), value=1.0)


def examples(dtype: torch.dtype) -> Iterator[tuple[Tensor, ...]]:
    for B, L, F, M in ((5, 7, 4, 5), (5, 7, 32, 64), (2, 3, 130, 130), (3, 150, 7, 19), (5, 7, 33, 36)):
        tensors = (torch.randn(B, L, F), torch.randn(B, 3, F), torch.randn(B, 3, M))
        yield *(x.to(dtype) for x in tensors), torch.randn(F, M), torch.randn(F, M)
