"""Where an event stands: from the start of the window, from its end, or by its age.

Legend: B rows, L history events (padded on the right), D width.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError

Positions = Literal["absolute", "reversed", "none"]
LONGEST_AGE = 10 * 365 * 86400  # seconds; older events share the last bucket


def check_window(items_BL: Tensor, max_length: int) -> None:
    """Refuse a window longer than the model was made for."""
    if items_BL.shape[1] > max_length:
        raise SeqrecError(
            f"a history of {items_BL.shape[1]} events exceeds model.max_length={max_length}; "
            f"cut it to its latest {max_length} events"
        )


def places_from_end(lengths_B: Tensor, width: int) -> Tensor:
    """[B, width]: 0 for a row's last event, 1 for the one before; 0 again for padding."""
    places_L = torch.arange(width, device=lengths_B.device)
    return (lengths_B[:, None] - 1 - places_L).clamp(min=0)


def age_buckets(seconds: Tensor, buckets: int) -> Tensor:
    """Buckets 0 to `buckets` - 1 of equal width in log(1 + age); ages below zero count as zero."""
    age = seconds.clamp(min=0).float()
    scale = (buckets - 1) / torch.log1p(torch.tensor(float(LONGEST_AGE))).item()
    return (torch.log1p(age) * scale).long().clamp(max=buckets - 1)


class PositionEmbedding(nn.Module):
    """A vector a place of the window.

    `absolute` counts from the window's first event; `reversed` from its last, which is what left padding gives
    SASRec as published; `none` adds nothing.
    """

    def __init__(self, kind: Positions, places: int, dim: int) -> None:
        super().__init__()
        self.kind = kind
        self.table = None if kind == "none" else nn.Embedding(places, dim)

    def forward(self, x_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        """x plus its places' vectors."""
        if self.table is None:
            return x_BLD
        width = x_BLD.shape[1]
        if self.kind == "absolute":
            return x_BLD + self.table.weight[:width]
        vectors_BLD: Tensor = self.table(places_from_end(lengths_B, width))
        return x_BLD + vectors_BLD
