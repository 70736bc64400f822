"""Layers of click rankers with numbers of their own for each channel: PReLU, Dice (Zhou et al. 2018, 1706.06978) and
batch normalisation.

Legend: M channels (the last dimension); leading dimensions are free. `real` [...] is False at padding.
"""

import torch
from torch import Tensor, nn

from seqrec_cli.kernels.prelu_dice.op import dice, prelu
from seqrec_cli.kernels.prelu_dice.reference import channel_moments, dice_reference
from seqrec_cli.processes import current, summed

NORM_EPSILON = 1e-5  # of BatchNorm's variance, torch's own
MOMENTUM = 0.1  # share of a new batch in the running statistics
SLOPE = 0.25  # PReLU's first slope, torch's own


class PReLU(nn.Module):
    """x where it is positive, else its channel's slope times x: [..., M] -> [..., M]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((channels,), SLOPE))

    def forward(self, x: Tensor) -> Tensor:
        return prelu(x, self.slope)

    def weighted(self, x: Tensor, real: Tensor | None, weight_M: Tensor) -> Tensor:
        """The sum of weight times the output over channels, [..., M] -> [...]; any number where `real` is False."""
        return prelu(x, self.slope, real, weight_M)


class Statistics(nn.Module):
    """Mean and variance of each channel: in training the batch's own, of its real elements, and gradients flow through
    them; in evaluation running averages, so that a score depends on no other row."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def running(self) -> Tensor | None:
        """[2, M]: the mean and variance of evaluation; None in training."""
        return None if self.training else torch.stack([self.running_mean, self.running_var])

    @torch.no_grad()
    def update(self, moments: Tensor) -> None:
        """In training, let the running averages take their share of a batch's moments."""
        if self.training:
            self.running_mean.lerp_(moments[0].detach(), MOMENTUM)
            self.running_var.lerp_(moments[1].detach(), MOMENTUM)


def moments_of_all(x: Tensor, real: Tensor | None) -> Tensor:
    """Mean and variance [2, M] of each channel over the real elements of all processes that share a batch."""
    exact = x.flatten(0, -2).to(torch.promote_types(x.dtype, torch.float32))
    weights = exact.new_ones(len(exact)) if real is None else real.expand(x.shape[:-1]).flatten().to(exact.dtype)
    sums = torch.cat([weights @ exact, weights @ exact.square(), weights.sum()[None]])
    tops, count = summed(sums).split([2 * x.shape[-1], 1])
    mean, square = (tops / count.clamp(min=1)).view(2, -1)
    return torch.stack([mean, (square - mean * mean).clamp(min=0)])


class Dice(Statistics):
    """PReLU with a smooth gate at the batch's mean (eq. 4): p x + (1 - p) slope x, with
    p = sigmoid((x - mean) / sqrt(variance + epsilon)) of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.slope = nn.Parameter(torch.zeros(channels))  # as in the authors' code

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """[..., M] -> [..., M]."""
        return self.weighted(x, real, None)

    def weighted(self, x: Tensor, real: Tensor | None, weight_M: Tensor | None) -> Tensor:
        """The sum of weight times the output over channels, [..., M] -> [...]; any number where `real` is False."""
        if self.training and current().several:  # the kernel's gradients are of its own rows' moments
            moments = moments_of_all(x, real)
            y = dice_reference(x, moments, self.slope)
            y = y if weight_M is None else (y.float() * weight_M).sum(-1)
        else:
            y, moments = dice(x, self.slope, real, weight_M, self.running())
        self.update(moments)
        return y


class BatchNorm(Statistics):
    """Each channel less its mean, over its standard deviation, times a learned factor, plus a learned number (Ioffe &
    Szegedy 2015, arXiv 1502.03167, algorithm 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """[..., M] -> [..., M]."""
        moments = self.running()
        if moments is None:
            moments = moments_of_all(x, real) if current().several else channel_moments(x, real)
            self.update(moments)
        mean, variance = moments
        scale = (variance + NORM_EPSILON).rsqrt() * self.weight
        return torch.addcmul((self.bias - mean * scale).to(x.dtype), x, scale.to(x.dtype))


def activate(layer: nn.Module, x: Tensor, real: Tensor | None) -> Tensor:
    """Any activation: one that keeps statistics is told which elements are real."""
    activated: Tensor = layer(x, real) if isinstance(layer, Dice) else layer(x)
    return activated
