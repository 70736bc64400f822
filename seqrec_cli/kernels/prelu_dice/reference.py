"""PReLU and Dice in torch's operators.

    y = x (slope + (1 - slope) gate)    gate = x > 0, or Dice's sigmoid((x - mean) / sqrt(variance + epsilon))

Legend: M channels (the last dimension); leading dimensions are free. `real` [...] is False at padding.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-8  # of Dice's variance, as in the paper


def channel_moments(x: Tensor, real: Tensor | None) -> Tensor:
    """Mean and variance [2, M] of each channel over the real elements; zeros if there are none."""
    real = x.new_ones(1, dtype=torch.bool) if real is None else real
    # All dimensions are kept: compiled, a flattened mask costs two divisions an element.
    exact, over = x.to(torch.promote_types(x.dtype, torch.float32)), tuple(range(x.dim() - 1))
    weights = real.expand(x.shape[:-1]).to(exact.dtype)
    weighted, count = weights[..., None] * exact, weights.sum().clamp(min=1)
    mean, square = weighted.sum(over) / count, (weighted * exact).sum(over) / count
    return torch.stack([mean, (square - mean * mean).clamp(min=0)])


def dice_reference(x: Tensor, moments: Tensor, slope_M: Tensor) -> Tensor:
    mean, variance = moments
    scale, slope = (variance + EPSILON).rsqrt(), slope_M.to(x.dtype)
    gate = torch.addcmul((-mean * scale).to(x.dtype), x, scale.to(x.dtype)).sigmoid()
    return x * torch.addcmul(slope, 1 - slope, gate)


def reference(
    x: Tensor, real: Tensor, moments: Tensor | None, own_moments: bool, slope_M: Tensor, weight_M: Tensor | None
) -> Tensor:
    if moments is None:
        y = torch.where(x > 0, x, x * slope_M.to(x.dtype))
    else:
        y = dice_reference(x, channel_moments(x, real) if own_moments else moments.detach(), slope_M)
    return y if weight_M is None else (y * weight_M).sum(-1) * real


def examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    for M in (1, 5, 16, 36, 200):
        x = (torch.randn(7, 50, M) * torch.linspace(0.3, 3, M) + 0.7).to(dtype)
        real, weight_M = torch.rand(7, 50) < 0.7, torch.randn(M)
        own = channel_moments(x, real)
        for moments, is_own in ((None, False), (torch.rand(2, M), False), (own, True)):
            for weight in (None, weight_M):
                yield x, real, moments, is_own, torch.rand(M) * 1.4 - 0.5, weight
