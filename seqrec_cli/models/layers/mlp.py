"""Position-wise layers: the transformer's feed-forward layers and the rankers' MLP.

Legend: D width; leading dimensions are free.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from seqrec_cli.kernels.bias_activation_dropout.op import linear_activation_dropout
from seqrec_cli.models.layers.channelwise import BatchNorm, Dice, PReLU, activate
from seqrec_cli.models.layers.dropout import Dropout

Activation = Literal["relu", "gelu", "leaky_relu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "leaky_relu": nn.LeakyReLU}
LEARNED: dict[str, Callable[[int], nn.Module]] = {"dice": Dice, "prelu": PReLU}  # a slope a channel


class FeedForward(nn.Module):
    """Widen, activate, narrow: [..., D] -> [..., D]; `drop` acts on the inner activations."""

    def __init__(self, dim: int, width: int, activation: Activation, *, drop: float = 0.0) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(dim, width), nn.Linear(width, dim)
        self.activation, self.drop = activation, Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        narrow: Tensor = self.down(self.inner(x))
        return narrow

    def inner(self, x: Tensor) -> Tensor:
        """What `down` reads, [..., width]."""
        return linear_activation_dropout(self.up, x, self.activation, self.drop.current)


class SwiGLU(nn.Module):
    """silu(x W1) * (x W2), narrowed again: [..., D] -> [..., D] (Shazeer 2020, arXiv 2002.05202, eq. 6).

    `drop` acts on the inner products; there are no biases.
    """

    def __init__(self, dim: int, width: int, drop: float = 0.0) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(dim, 2 * width, bias=False), nn.Linear(width, dim, bias=False)
        self.drop = Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, dim=-1)
        narrow: Tensor = self.down(self.drop(nn.functional.silu(gate) * value))
        return narrow


class Mlp(nn.Module):
    """Activation and dropout after every layer, with `batch_norm` a normalisation in front of each activation; the
    input [..., widths[0]] is the first layer's linear output."""

    def __init__(
        self,
        widths: tuple[int, ...],
        activation: Activation | Literal["dice", "prelu"],
        drop: float,
        *,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activations = nn.ModuleList(
            LEARNED[activation](width) if activation in LEARNED else ACTIVATIONS[activation]() for width in widths
        )
        self.norms = nn.ModuleList(BatchNorm(width) for width in widths) if batch_norm else None
        self.drop = Dropout(drop)
        self.numbers = (3 if batch_norm else 2) * sum(widths)  # that one input becomes, about

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """`real` [...] is False where an input is padding: what keeps statistics leaves it out."""
        x = self._activated(0, x, real)
        for index, layer in enumerate(self.layers, start=1):
            x = self._activated(index, layer(x), real)
        return x

    def _activated(self, index: int, x: Tensor, real: Tensor | None) -> Tensor:
        if self.norms is not None:
            x = self.norms[index](x, real)
        dropped: Tensor = self.drop(activate(self.activations[index], x, real))
        return dropped
