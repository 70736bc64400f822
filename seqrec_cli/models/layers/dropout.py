"""Dropout as a module, and of whole events.

Legend: B rows, L history events, D width.
"""

import torch
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


def drop_events(x_BLD: Tensor, probability: float) -> Tensor:
    """Each event's vector zero with this probability, else larger by 1 / (1 - p), as Gal & Ghahramani drop words (arXiv
    1512.05287)."""
    kept_BL = torch.rand(x_BLD.shape[:-1], device=x_BLD.device) >= probability
    return x_BLD * (kept_BL / (1 - probability)).to(x_BLD.dtype)[..., None]
