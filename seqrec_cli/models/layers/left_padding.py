"""Rows padded on the left to max_length, as SASRec was published, and what its padding does to the events.

The house pads rows on the right to their own batch, where no event of a causal row looks, and needs none of this. The
kinds reproduce what published code does (Kang & McAuley's, in TensorFlow; its port github.com/pmixer/SASRec.pytorch):

- `masked`: keys at padding are masked, and its vectors cleared (TensorFlow). To an event the same as no padding.
- `cleared`: vectors at padding are set to zero before every block, with their position, but no key is masked: a key of
  zeros is the layer's bias, and takes its share of every softmax (the port's first versions, which masked no key).
- `zero`: row 0 of the item table is zero and does not learn; attention looks at it, and after the first block it is
  no longer zero (its later version, whose positions skip padding: padding_positions=false).
- `initial`: as `zero`, but row 0 starts like any other, for an initialiser ran over it after `padding_idx` had zeroed
  it, and gets no gradient: a bias. This is the first bug; padding_positions=true is the second.
- `trained`: row 0 learns.

The row is a vector of its own here, not row 0 of the item table, which stays zero: no item is scored by it.

Legend: B rows, L history events, M max_length, D width.
"""

import torch
from torch import Tensor, nn

from seqrec_cli.config.padding import CARRIED, PaddedConfig
from seqrec_cli.models.layers.positions import PositionEmbedding


class LeftPadding(nn.Module):
    """Moves events to the right end of rows of M, and states back to their left."""

    def __init__(self, cfg: PaddedConfig, std: float) -> None:
        """`std`: the deviation of the item table's rows at the start."""
        super().__init__()
        self.length, self.kind = cfg.max_length, cfg.padding
        self.positions = cfg.padding_positions and cfg.padding in CARRIED
        row_1D = torch.zeros(1, cfg.embed_dim)
        if cfg.padding in ("initial", "trained"):
            nn.init.trunc_normal_(row_1D, std=std, a=-2 * std, b=2 * std)
        self.table = None
        if cfg.padding == "trained":
            self.table = nn.Embedding(1, cfg.embed_dim, _weight=row_1D)
        else:
            self.register_buffer("row_1D", row_1D)

    def real(self, lengths_B: Tensor) -> Tensor:
        """[B, M]: True at events."""
        return torch.arange(self.length, device=lengths_B.device) >= self.length - lengths_B[:, None]

    def placed(self, x_BLD: Tensor, lengths_B: Tensor, positions: PositionEmbedding, *, scale: float) -> Tensor:
        """Events [B, L, D] at the right end of rows [B, M, D], with padding before them and all positions added."""
        real_BM1 = self.real(lengths_B)[..., None]
        wanted_BM = (torch.arange(self.length, device=x_BLD.device) - (self.length - lengths_B[:, None])).clamp(
            0, x_BLD.shape[1] - 1
        )
        x_BMD = x_BLD.gather(1, wanted_BM[..., None].expand(-1, -1, x_BLD.shape[-1]))
        row_1D = self.row_1D if self.table is None else self.table.weight
        assert isinstance(row_1D, Tensor)
        padding_11D = (row_1D * scale)[None].to(x_BMD.dtype)
        placed_BMD = positions(torch.where(real_BM1, x_BMD, padding_11D), torch.full_like(lengths_B, self.length))
        return placed_BMD if self.positions else torch.where(real_BM1, placed_BMD, padding_11D)

    def cleared(self, x_BMD: Tensor, real_BM: Tensor) -> Tensor:
        """What a block reads."""
        return x_BMD * real_BM[..., None].to(x_BMD.dtype) if self.kind == "cleared" else x_BMD

    def back(self, x_BMD: Tensor, lengths_B: Tensor, width: int) -> Tensor:
        """States [B, L, D] of events at the left end of rows, `width` = L wide."""
        first_B1 = self.length - lengths_B[:, None]
        wanted_BL = (first_B1 + torch.arange(width, device=x_BMD.device)).clamp(max=self.length - 1)
        return x_BMD.gather(1, wanted_BL[..., None].expand(-1, -1, x_BMD.shape[-1]))
