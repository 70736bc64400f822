"""eSASRec: SASRec with LiGR's gated blocks (Tikhonovich et al. 2025, arXiv 2508.06450; the blocks: Borisyuk et al.
2025, arXiv 2502.03417), made for a sampled softmax without log-q (`objectives/sampled_softmax.py`).

    x = x + sigmoid(x W1 + b1) * attention(norm(x))
    x = x + sigmoid(x W2 + b2) * swiglu(norm(x))

A gate reads the stream as it is, not normed, as in the authors' code. Where plain blocks stop learning with depth,
gated ones go on. Deviation: a LayerNorm stands in front of the product with the items, as in SASRec.

Legend: B rows, L history events, D width.
"""

from torch import Tensor, nn

from seqrec_cli.config.model.esasrec import Config
from seqrec_cli.models.layers.attention import MultiHeadAttention
from seqrec_cli.models.layers.dropout import Dropout
from seqrec_cli.models.layers.mlp import SwiGLU
from seqrec_cli.models.layers.packed_rows import Group, PackedRows
from seqrec_cli.models.layers.positions import attention_positions
from seqrec_cli.models.layers.transformer import row_ends
from seqrec_cli.models.padded_encoder import PaddedEncoder


class GatedBlock(nn.Module):
    """One LiGR block."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        D = cfg.embed_dim
        positions = attention_positions(cfg.positions, cfg.heads, D // cfg.heads, longest=cfg.max_length)
        self.attention = MultiHeadAttention(D, cfg.heads, cfg.attention_dropout, positions=positions)
        self.feed_forward = SwiGLU(D, cfg.ffn_dim, cfg.dropout)
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(D), nn.LayerNorm(D)
        self.gate_attention, self.gate_feed_forward = nn.Linear(D, D), nn.Linear(D, D)
        self.drop = Dropout(cfg.dropout)

    def forward(self, x_BLD: Tensor, causal: bool, mask_BL: Tensor | None = None) -> Tensor:
        inner = self.norm_attention(x_BLD)
        return self._output(x_BLD, self.attention(inner, inner, causal=causal, mask_BT=mask_BL))

    def forward_packed(self, x_PD: Tensor, rows: PackedRows) -> Tensor:
        """The causal block of rows that are laid end to end."""

        def attend(_: Group, inner_bLD: Tensor) -> Tensor:
            return self.attention(inner_bLD, inner_bLD, causal=True)

        return self._output(x_PD, rows.each(attend, self.norm_attention(x_PD)))

    def forward_last(self, x_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        """The causal block's output [B, D] at each row's last event (its first position, if it has none)."""
        inner, (rows_B, ends_B, seen_BL) = self.norm_attention(x_BLD), row_ends(x_BLD, lengths_B)
        attended_B1D = self.attention(inner[rows_B, ends_B, None], inner, mask_BT=seen_BL, positions_BL=ends_B[:, None])
        return self._output(x_BLD[rows_B, ends_B], attended_B1D[:, 0])

    def _output(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.gate_attention(x).sigmoid() * self.drop(attended)
        fed: Tensor = self.feed_forward(self.norm_feed_forward(x))
        return x + self.gate_feed_forward(x).sigmoid() * self.drop(fed)


class Model(PaddedEncoder):
    """Causal gated transformer."""

    def add_layers(self, cfg: Config) -> None:  # type: ignore[override]
        self.blocks = nn.ModuleList(GatedBlock(cfg) for _ in range(cfg.blocks))
        self.norm = nn.LayerNorm(cfg.embed_dim)
