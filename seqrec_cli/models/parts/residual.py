"""What a layer adds to the residual stream, and the norm of the sum.

Legend: D the stream's width, M the layer's inputs; leading dimensions are free.
"""

from torch import Tensor, nn

from seqrec_cli.models.parts import residual_native
from seqrec_cli.models.parts.dropout import Dropout


def add(x: Tensor, layer: nn.Module, inner: Tensor, drop: Dropout) -> Tensor:
    """x + drop(layer(inner)): [..., D], of [..., D] and [..., M]."""
    if isinstance(layer, nn.Linear) and residual_native.in_c(x, layer, inner):
        return residual_native.added(x, layer, inner, drop.acting)
    return x + drop(layer(inner))


def add_and_norm(
    x: Tensor, layer: nn.Module, inner: Tensor, drop: Dropout, norm: nn.LayerNorm
) -> tuple[Tensor, Tensor]:
    """The same, and its norm."""
    if isinstance(layer, nn.Linear) and residual_native.in_c(x, layer, inner):
        return residual_native.added_and_normed(x, layer, inner, drop.acting, norm)
    x = x + drop(layer(inner))
    return x, norm(x)
