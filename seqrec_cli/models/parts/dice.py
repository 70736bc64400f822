"""Layers of click rankers with numbers of their own for each channel: PReLU, Dice (Zhou et al. 2018, 1706.06978) and
batch normalisation.

Legend: M channels (the last dimension); leading dimensions are free.
"""

from typing import Any

import torch
from torch import Tensor, nn

EPSILON = 1e-8  # of Dice's variance, as in the paper
NORM_EPSILON = 1e-5  # of BatchNorm's, torch's own
MOMENTUM = 0.1  # share of a new batch in the running statistics
SLOPE = 0.25  # PReLU's first slope, torch's own


class _PReLU(torch.autograd.Function):
    """torch's own but for its backward pass, which on a CPU takes 2.2 ms where this one takes 0.3 (14,000 rows of 36).

    `where` is the trap there, at ten times the price of an addition; a ReLU's gradient chooses as well.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return nn.functional.prelu(x.flatten(0, -2), slope).view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        above = torch.ops.aten.threshold_backward(gradients[0], x, 0)
        of_slope = (gradients[0] * x.clamp(max=0)).flatten(0, -2).sum(0)
        return torch.lerp(above, gradients[0], slope), of_slope


class PReLU(nn.Module):
    """x where it is positive, else its channel's slope times x: [..., M] -> [..., M]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((channels,), SLOPE))

    def forward(self, x: Tensor) -> Tensor:
        slope = self.slope.to(x.dtype)
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return nn.functional.prelu(x.flatten(0, -2), slope).view_as(x)
        activated: Tensor = _PReLU.apply(x, slope)
        return activated


def _column_sums(x: Tensor) -> Tensor:
    """[..., M] -> [M] in fp32. A product, for `sum(dtype=float32)` of bf16 makes a copy ten times as dear."""
    x_NM = x.flatten(0, -2)
    with torch.autocast(x.device.type, enabled=False):
        return (x_NM.new_ones(1, len(x_NM)) @ x_NM)[0].float()


class _Bend(torch.autograd.Function):
    """x (slope + (1 - slope) sigmoid(scale x + shift)), keeping x and the gate alone: of what autograd would keep and
    do on a CPU, a third."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale_M: Tensor, shift_M: Tensor, slope_M: Tensor) -> Tensor:
        scale, shift, slope = (each.to(x.dtype) for each in (scale_M, shift_M, slope_M))
        gate = torch.addcmul(shift, x, scale).sigmoid_()
        ctx.save_for_backward(x, gate, scale, slope)
        return torch.addcmul(slope, 1 - slope, gate).mul_(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        x, gate, scale, slope = ctx.saved_tensors
        gradient, rest = gradients[0].to(x.dtype), 1 - slope
        of_bend = gradient * x
        of_slope = _column_sums(of_bend) - _column_sums(of_bend * gate)
        of_gate = torch.ops.aten.sigmoid_backward(of_bend.mul_(rest), gate)
        of_scale, of_shift = _column_sums(of_gate * x), _column_sums(of_gate)
        of_x = torch.addcmul(slope, rest, gate).mul_(gradient).addcmul_(of_gate, scale)
        return of_x, of_scale, of_shift, of_slope


class _Sums(torch.autograd.Function):
    """sum_n w_n x_n and sum_n w_n x_n^2 in fp32, keeping x as it came."""

    @staticmethod
    def forward(ctx: Any, x_NM: Tensor, weights_N: Tensor) -> Tensor:
        ctx.save_for_backward(x_NM, weights_N)
        wide_NM = x_NM.float()
        return torch.stack([weights_N @ wide_NM, weights_N @ wide_NM.square()])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x_NM, weights_N = ctx.saved_tensors
        of_sum, of_square = gradients[0].to(x_NM.dtype)
        return torch.addcmul(of_sum, x_NM, 2 * of_square).mul_(weights_N.to(x_NM.dtype)[:, None]), None


class Statistics(nn.Module):
    """Mean and variance of each channel: in training the batch's own, of its real elements, and gradients flow through
    them; in evaluation running averages, so that a score depends on no other row."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def current(self, x: Tensor, real: Tensor | None) -> Tensor:
        """[2, M]: the mean and variance to work with; `real` [...] is False at padding."""
        if not self.training:
            return torch.stack([self.running_mean, self.running_var])
        return self.moments(self.sums(x, real))

    def sums(self, x: Tensor, real: Tensor | None) -> Tensor:
        """[3, M]: the number of real elements, their sum and their sum of squares; those of a batch's parts add up."""
        real = x.new_ones(1, dtype=torch.bool) if real is None else real
        weights = real.expand(x.shape[:-1]).float()
        with torch.autocast(x.device.type, enabled=False):  # `_Sums`: products with the weights, sums in one pass
            count_M = weights.sum().expand(x.shape[-1])
            if x.device.type == "cpu" and not torch.compiler.is_compiling():
                return torch.cat([count_M[None], _Sums.apply(x.flatten(0, -2), weights.flatten())])
            # All dimensions are kept: compiled, a flattened mask costs two divisions an element.
            wide, over = x.float(), tuple(range(x.dim() - 1))
            weighted = weights[..., None] * wide
            return torch.stack([count_M, weighted.sum(over), (weighted * wide).sum(over)])

    def moments(self, sums: Tensor) -> Tensor:
        """[2, M]: a training batch's mean and variance from its `sums`; the running averages take their share."""
        mean, square = sums[1:] / sums[0].clamp(min=1)
        moments = torch.stack([mean, (square - mean * mean).clamp(min=0)])
        with torch.no_grad():
            self.running_mean.lerp_(moments[0].detach(), MOMENTUM)
            self.running_var.lerp_(moments[1].detach(), MOMENTUM)
        return moments


class Dice(Statistics):
    """PReLU whose bend is soft and stands at the batch's mean (eq. 4): p x + (1 - p) slope x, with
    p = sigmoid((x - mean) / sqrt(variance + epsilon)) of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.slope = nn.Parameter(torch.zeros(channels))  # as in the authors' code

    def forward(self, x: Tensor, real: Tensor | None = None, moments: Tensor | None = None) -> Tensor:
        """[..., M] -> [..., M]. `real` [...] is False at padding; `moments` are given where x is a part of a batch."""
        if not self.training or moments is None:
            moments = self.current(x, real)
        scale = (moments[1] + EPSILON).rsqrt()
        shift = -moments[0] * scale
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            bent: Tensor = _Bend.apply(x, scale, shift, self.slope)
            return bent
        gate = torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype)).sigmoid()
        slope = self.slope.to(x.dtype)
        return x * torch.addcmul(slope, 1 - slope, gate)


class BatchNorm(Statistics):
    """Each channel less its mean, over its standard deviation, times a learned factor, plus a learned number (Ioffe &
    Szegedy 2015, arXiv 1502.03167, algorithm 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """[..., M] -> [..., M]. `real` [...] is False at padding."""
        mean, variance = self.current(x, real)
        scale = (variance + NORM_EPSILON).rsqrt() * self.weight
        return torch.addcmul((self.bias - mean * scale).to(x.dtype), x, scale.to(x.dtype))


def activate(layer: nn.Module, x: Tensor, real: Tensor | None) -> Tensor:
    """Any activation: one that keeps statistics is told which elements are real."""
    activated: Tensor = layer(x, real) if isinstance(layer, Dice) else layer(x)
    return activated
