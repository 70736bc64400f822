"""eSASRec: SASRec with LiGR's gated blocks (Tikhonovich et al. 2025, arXiv 2508.06450; the blocks: Borisyuk et al.
2025, arXiv 2502.03417), made for a sampled softmax.

    x = x + sigmoid(x W1 + b1) * attention(norm(x))
    x = x + sigmoid(x W2 + b2) * swiglu(norm(x))

A gate reads the stream as it is, not normed, as in the authors' code. Where plain blocks stop learning with depth,
gated ones go on. Deviation: a LayerNorm stands in front of the product with the items, as in SASRec.

Legend: B rows, L history events, D width.
"""

from torch import Tensor, nn

from seqrec_cli.config.model.esasrec import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.parts.attention import MultiHeadAttention
from seqrec_cli.models.parts.dropout import Dropout
from seqrec_cli.models.parts.mlp import SwiGLU
from seqrec_cli.models.parts.positions import attention_places
from seqrec_cli.models.parts.transformer import row_ends, run_causal, run_causal_to_end


class GatedBlock(nn.Module):
    """One LiGR block."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        D = cfg.embed_dim
        places = attention_places(cfg.positions, cfg.heads, D // cfg.heads, cfg.max_length)
        self.attention = MultiHeadAttention(D, cfg.heads, cfg.attention_dropout, places=places)
        self.feed_forward = SwiGLU(D, cfg.ffn_dim, cfg.dropout)
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(D), nn.LayerNorm(D)
        self.gate_attention, self.gate_feed_forward = nn.Linear(D, D), nn.Linear(D, D)
        self.drop = Dropout(cfg.dropout)

    def forward(self, x_BLD: Tensor, causal: bool) -> Tensor:
        inner = self.norm_attention(x_BLD)
        return self._after(x_BLD, self.attention(inner, inner, causal))

    def at_end(self, x_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        """The causal block's output [B, D] at each row's last event (its first place, if it has none)."""
        inner, (rows_B, ends_B, seen_BL) = self.norm_attention(x_BLD), row_ends(x_BLD, lengths_B)
        attended_B1D = self.attention(inner[rows_B, ends_B, None], inner, False, seen_BL, ends_B[:, None])
        return self._after(x_BLD[rows_B, ends_B], attended_B1D[:, 0])

    def _after(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.gate_attention(x).sigmoid() * self.drop(attended)
        fed: Tensor = self.feed_forward(self.norm_feed_forward(x))
        return x + self.gate_feed_forward(x).sigmoid() * self.drop(fed)


class Model(ItemEncoder):
    """Causal gated transformer."""

    def add_layers(self, cfg: Config) -> None:  # type: ignore[override]
        self.blocks = nn.ModuleList(GatedBlock(cfg) for _ in range(cfg.blocks))
        self.norm = nn.LayerNorm(cfg.embed_dim)

    def through(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        return run_causal(self.blocks, x_BLD)

    def through_to_end(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        return run_causal_to_end(self.blocks, x_BLD, batch.lengths_B)
