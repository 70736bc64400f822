"""Dropout as a module."""

from torch import Tensor, nn

from seqrec_cli.kernels.dropout.op import dropout


class Dropout(nn.Module):
    """`kernels.dropout`, in training mode only."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.current)

    @property
    def current(self) -> float:
        """The probability with which it drops an element now: 0 in evaluation."""
        return self.probability if self.training else 0.0

    def extra_repr(self) -> str:
        return f"probability={self.probability}"
