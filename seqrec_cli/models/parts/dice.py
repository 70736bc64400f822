"""Layers of click rankers with numbers of their own for each channel: PReLU, Dice (Zhou et al. 2018, 1706.06978) and
batch normalisation.

Legend: M channels (the last dimension); leading dimensions are free.
"""

import torch
from torch import Tensor, nn

from seqrec_cli.models.parts import bend_native as native
from seqrec_cli.models.parts.bend_native import EPSILON

NORM_EPSILON = 1e-5  # of BatchNorm's variance, torch's own
MOMENTUM = 0.1  # share of a new batch in the running statistics
SLOPE = 0.25  # PReLU's first slope, torch's own


class _Bent(nn.Module):
    """x (slope + (1 - slope) gate), and its weighted sum over channels, which is one pass in C (`bend_native.py`)."""

    slope: Tensor

    def weighted(self, x: Tensor, real: Tensor | None, weight_M: Tensor) -> Tensor:
        """The sum of weight times the output over channels, [..., M] -> [...]; any number where `real` is False."""
        if native.in_c(x):
            return self._in_c(x, real, weight_M)
        bent = activate(self, x, real)
        if torch.compiler.is_compiling():  # a sum becomes one pass with what is before it, a product does not
            return (bent.float() * weight_M).sum(-1)
        return nn.functional.linear(bent, weight_M[None]).squeeze(-1)

    def _in_c(self, x: Tensor, real: Tensor | None, weight_M: Tensor | None) -> Tensor:
        raise NotImplementedError


class PReLU(_Bent):
    """x where it is positive, else its channel's slope times x: [..., M] -> [..., M]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((channels,), SLOPE))

    def forward(self, x: Tensor) -> Tensor:
        if native.in_c(x):
            return self._in_c(x, None, None)
        return nn.functional.prelu(x.flatten(0, -2), self.slope.to(x.dtype)).view_as(x)

    def _in_c(self, x: Tensor, real: Tensor | None, weight_M: Tensor | None) -> Tensor:
        return native.prelu(x, real, self.slope, weight_M)


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
        """[2, M]: the mean and variance to work with; `real` [...] is False at padding. The running averages follow."""
        if not self.training:
            return torch.stack([self.running_mean, self.running_var])
        real = x.new_ones(1, dtype=torch.bool) if real is None else real
        # All dimensions are kept: compiled, a flattened mask costs two divisions an element.
        wide, over = x.float(), tuple(range(x.dim() - 1))
        weights = real.expand(x.shape[:-1]).float()
        weighted, count = weights[..., None] * wide, weights.sum().clamp(min=1)
        mean, square = weighted.sum(over) / count, (weighted * wide).sum(over) / count
        moments = torch.stack([mean, (square - mean * mean).clamp(min=0)])
        self.follow(moments)
        return moments

    @torch.no_grad()
    def follow(self, moments: Tensor) -> None:
        """Let the running averages take their share of a training batch's moments."""
        self.running_mean.lerp_(moments[0].detach(), MOMENTUM)
        self.running_var.lerp_(moments[1].detach(), MOMENTUM)


class Dice(Statistics, _Bent):
    """PReLU whose bend is soft and stands at the batch's mean (eq. 4): p x + (1 - p) slope x, with
    p = sigmoid((x - mean) / sqrt(variance + epsilon)) of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.slope = nn.Parameter(torch.zeros(channels))  # as in the authors' code

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """[..., M] -> [..., M]. `real` [...] is False at padding."""
        if native.in_c(x):
            return self._in_c(x, real, None)
        mean, variance = self.current(x, real)
        scale, slope = (variance + EPSILON).rsqrt(), self.slope.to(x.dtype)
        gate = torch.addcmul((-mean * scale).to(x.dtype), x, scale.to(x.dtype)).sigmoid()
        return x * torch.addcmul(slope, 1 - slope, gate)

    def _in_c(self, x: Tensor, real: Tensor | None, weight_M: Tensor | None) -> Tensor:
        moments = None if self.training else torch.stack([self.running_mean, self.running_var])
        made, used = native.dice(x, real, moments, self.slope, weight_M)
        if self.training:
            self.follow(used)
        return made


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
