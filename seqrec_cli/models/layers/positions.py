"""Where an event stands: from the start of the window, from its end, by its age, or seen from another event.

Legend: B rows, L history events (padded on the right) or queries, T keys, H heads, D width, d = D / H. A is B, or 1
where all rows are alike.
"""

import torch
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model import IN_ATTENTION, Positions
from seqrec_cli.models.layers.packed_rows import PackedRows

LONGEST_AGE = 10 * 365 * 86400  # seconds; older events share the last bucket


def check_window(items_BL: Tensor, max_length: int) -> None:
    """Refuse a window longer than the model was made for."""
    if items_BL.shape[1] > max_length:
        raise SeqrecError(
            f"a history of {items_BL.shape[1]} events exceeds model.max_length={max_length}; "
            f"cut it to its latest {max_length} events"
        )


def positions_from_end(lengths_B: Tensor, width: int) -> Tensor:
    """[B, width]: 0 for a row's last event, 1 for the one before; 0 again for padding."""
    positions_L = torch.arange(width, device=lengths_B.device)
    return (lengths_B[:, None] - 1 - positions_L).clamp(min=0)


def age_buckets(seconds: Tensor, buckets: int) -> Tensor:
    """Buckets 0 to `buckets` - 1 of equal width in log(1 + age); ages below zero count as zero."""
    age = seconds.clamp(min=0).float()
    scale = (buckets - 1) / torch.log1p(torch.tensor(float(LONGEST_AGE))).item()
    return (torch.log1p(age) * scale).long().clamp(max=buckets - 1)


class PositionEmbedding(nn.Module):
    """A vector a position of the window.

    `absolute` counts from the window's first event; `reversed` from its last, which is what left padding gives
    SASRec as published; other kinds add nothing to the input.
    """

    def __init__(self, kind: Positions, positions: int, dim: int) -> None:
        super().__init__()
        self.kind = kind
        self.table = nn.Embedding(positions, dim) if kind in ("absolute", "reversed") else None

    def forward(self, x_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        """x plus its positions' vectors."""
        if self.table is None:
            return x_BLD
        if self.kind == "absolute":
            return x_BLD + self.table.weight[: x_BLD.shape[1]]
        vectors_BLD: Tensor = self.table(self.rows(lengths_B, x_BLD.shape[1]))
        return x_BLD + vectors_BLD

    def add_packed(self, x_PD: Tensor, lengths_B: Tensor, rows: PackedRows) -> Tensor:
        """The same of rows that are laid end to end."""
        if self.table is None:
            return x_PD
        vectors_PD: Tensor = self.table(rows.pick(self.rows(lengths_B, rows.width)))
        return x_PD + vectors_PD

    def rows(self, lengths_B: Tensor, width: int) -> Tensor:
        """The table's row of each position, [B, L]."""
        if self.kind == "reversed":
            return positions_from_end(lengths_B, width)
        return torch.arange(width, device=lengths_B.device).expand(len(lengths_B), width)


class Rotary(nn.Module):
    """Turns queries and keys by angles that grow with their positions, so that products depend on distances (RoFormer,
    Su et al. 2021, arXiv 2104.09864, eq. 15 and 34; number k of a head is paired with number k + d/2)."""

    BASE = 10_000.0

    cosine_Td: Tensor
    sine_Td: Tensor

    def __init__(self, head_dim: int, positions: int) -> None:
        super().__init__()
        half = head_dim // 2
        rates_h = self.BASE ** (-torch.arange(half) / half)
        angles_Th = torch.arange(positions)[:, None] * rates_h
        self.register_buffer("cosine_Td", angles_Th.cos().repeat(1, 2), persistent=False)
        # The first half of a turned pair subtracts what the second half adds.
        self.register_buffer("sine_Td", torch.cat([-angles_Th.sin(), angles_Th.sin()], dim=1), persistent=False)

    def forward(self, x_BHLd: Tensor, positions_BL: Tensor | None = None) -> Tensor:
        """x turned to its positions, which are 0, 1, ... if not given."""
        if positions_BL is None:
            cosine, sine = self.cosine_Td[: x_BHLd.shape[2]], self.sine_Td[: x_BHLd.shape[2]]
        else:
            cosine, sine = self.cosine_Td[positions_BL][:, None], self.sine_Td[positions_BL][:, None]
        swapped_BHLd = x_BHLd.roll(x_BHLd.shape[-1] // 2, dims=-1)
        return x_BHLd * cosine.to(x_BHLd.dtype) + swapped_BHLd * sine.to(x_BHLd.dtype)


class RelativeBias(nn.Module):
    """A learned number for every head and every distance between a query and a key, added to attention's logits.

    Shaw et al. 2018 (arXiv 1803.02155) in the form of T5 (arXiv 1910.10683): a number, not a vector, a distance. Each
    distance has its own, as in HSTU (arXiv 2402.17152), where T5 puts far ones into common buckets.
    """

    def __init__(self, heads: int, positions: int) -> None:
        super().__init__()
        self.farthest = positions - 1
        self.table = nn.Embedding(2 * positions - 1, heads)  # row: position of query - position of key + farthest

    def forward(self, keys: int, positions_BL: Tensor | None = None) -> Tensor:
        """[A, H, L, T] for keys at positions 0 to T - 1; without `positions_BL` the queries' are the same."""
        # Row r of the strided view belongs to the query at farthest - r. Its backward is six times as fast as that of
        # an index (0.1 against 0.6 ms, L 200). The view is whole, for its size has to be a plain number.
        strided_HPP = self.table.weight.T.flip(1).unfold(1, self.farthest + 1, 1)
        strided_HPT = strided_HPP[:, :, :keys]
        if positions_BL is None:
            return strided_HPT[:, self.farthest + 1 - keys :].flip(1)[None]
        picked_HNT = strided_HPT.index_select(1, (self.farthest - positions_BL).flatten())
        return picked_HNT.unflatten(1, positions_BL.shape).transpose(0, 1)


def attention_positions(kind: Positions, heads: int, head_dim: int, *, longest: int) -> Rotary | RelativeBias | None:
    """What attention itself needs for these positions; None where they are in the input."""
    if kind not in IN_ATTENTION:
        return None
    return Rotary(head_dim, longest) if kind == "rotary" else RelativeBias(heads, longest)
