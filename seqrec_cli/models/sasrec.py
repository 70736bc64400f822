"""SASRec: self-attention over the history, next item at every position (Kang & McAuley 2018, arXiv 1808.09781).

`norm: published` is the authors' network: queries alone are normed, the residual continues from the normed
queries, heads are joined without a projection, ReLU inside (with ffn_dim = embed_dim), items scaled by sqrt(D).
`norm: pre` is today's pre-norm transformer with GELU, which trains better with softmax losses (SASRec+,
arXiv 2309.07602).

Legend: B rows, L history events, D width, V items.
"""

from torch import Tensor, nn

from seqrec_cli.config.model.sasrec import Config
from seqrec_cli.models.layers.attention import MultiHeadAttention
from seqrec_cli.models.layers.dropout import Dropout
from seqrec_cli.models.layers.mlp import FeedForward
from seqrec_cli.models.layers.packed_rows import Group, PackedRows
from seqrec_cli.models.layers.positions import RelativeBias, Rotary, attention_positions
from seqrec_cli.models.layers.transformer import TransformerBlock, row_ends
from seqrec_cli.models.padded_encoder import PaddedEncoder


class PublishedBlock(nn.Module):
    """One block of the authors' network (section III.B, and their code where the paper is silent)."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        positions = _attention_positions(cfg)
        self.attention = MultiHeadAttention(
            cfg.embed_dim, cfg.heads, cfg.attention_dropout, project=False, positions=positions
        )
        self.feed_forward = FeedForward(cfg.embed_dim, cfg.ffn_dim, "relu", drop=cfg.dropout)
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(cfg.embed_dim), nn.LayerNorm(cfg.embed_dim)
        self.drop = Dropout(cfg.dropout)

    def forward(self, x_BLD: Tensor, causal: bool, mask_BL: Tensor | None = None) -> Tensor:
        queries = self.norm_attention(x_BLD)
        return self._output(queries, self.attention(queries, x_BLD, causal=causal, mask_BT=mask_BL))

    def forward_packed(self, x_PD: Tensor, rows: PackedRows) -> Tensor:
        """The block of rows that are laid end to end."""

        def attend(_: Group, queries_bLD: Tensor, keys_bLD: Tensor) -> Tensor:
            return self.attention(queries_bLD, keys_bLD, causal=True)

        queries = self.norm_attention(x_PD)
        return self._output(queries, rows.each(attend, queries, x_PD))

    def forward_last(self, x_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        """The block's output [B, D] at each row's last event (its first position, if it has none)."""
        rows_B, ends_B, seen_BL = row_ends(x_BLD, lengths_B)
        queries_B1D = self.norm_attention(x_BLD[rows_B, ends_B, None])
        attended_B1D = self.attention(queries_B1D, x_BLD, mask_BT=seen_BL, positions_BL=ends_B[:, None])
        return self._output(queries_B1D, attended_B1D)[:, 0]

    def _output(self, queries: Tensor, attended: Tensor) -> Tensor:
        x = self.norm_feed_forward(queries + attended)
        wide: Tensor = x + self.drop(self.feed_forward(x))
        return wide


class Model(PaddedEncoder):
    """Causal transformer whose output layer is the item table."""

    def add_layers(self, cfg: Config) -> None:  # type: ignore[override]
        self.scale = cfg.embed_dim**0.5 if cfg.norm == "published" else 1.0
        self.blocks = nn.ModuleList(self._block(cfg) for _ in range(cfg.blocks))
        self.norm = nn.LayerNorm(cfg.embed_dim)

    @staticmethod
    def _block(cfg: Config) -> nn.Module:
        if cfg.norm == "published":
            return PublishedBlock(cfg)
        return TransformerBlock(
            cfg.embed_dim,
            cfg.heads,
            cfg.ffn_dim,
            norm="pre",
            activation="gelu",
            drop=cfg.dropout,
            attention_drop=cfg.attention_dropout,
            positions=_attention_positions(cfg),
        )


def _attention_positions(cfg: Config) -> Rotary | RelativeBias | None:
    return attention_positions(cfg.positions, cfg.heads, cfg.embed_dim // cfg.heads, longest=cfg.max_length)
