"""SASRec: self-attention over the history, next item at every position (Kang & McAuley 2018, arXiv 1808.09781).

`norm: published` is the authors' network: queries alone are normed, the residual continues from the normed
queries, heads are joined without a projection, ReLU inside (with ffn_dim = embed_dim), items scaled by sqrt(D).
`norm: pre` is today's pre-norm transformer with GELU, which trains better with softmax losses (SASRec+,
arXiv 2309.07602). `agreement` adds what `layers/agreement.py` says of known events.

Legend: B rows, L history events, D width, V items.
"""

from torch import Tensor, nn

from seqrec_cli.config.model.sasrec import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.layers.agreement import Agreement
from seqrec_cli.models.layers.attention_forms import causal_attention
from seqrec_cli.models.layers.dropout import Dropout
from seqrec_cli.models.layers.mlp import FeedForward
from seqrec_cli.models.layers.packed_rows import Group, PackedRows
from seqrec_cli.models.layers.transformer import TransformerBlock, row_ends
from seqrec_cli.models.padded_encoder import PaddedEncoder


class PublishedBlock(nn.Module):
    """One block of the authors' network (section III.B, and their code where the paper is silent)."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.attention = causal_attention(cfg, project=False)
        self.feed_forward = FeedForward(cfg.embed_dim, cfg.ffn_dim, "relu", drop=cfg.dropout)
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(cfg.embed_dim), nn.LayerNorm(cfg.embed_dim)
        self.drop = Dropout(cfg.dropout)

    def forward(
        self, x_BLD: Tensor, causal: bool, mask_BL: Tensor | None = None, *, bias_BHLT: Tensor | None = None
    ) -> Tensor:
        queries = self.norm_attention(x_BLD)
        attended = self.attention(queries, x_BLD, causal=causal, mask_BT=mask_BL, bias_BHLT=bias_BHLT)
        return self._output(queries, attended)

    def forward_packed(self, x_PD: Tensor, rows: PackedRows) -> Tensor:
        """The block of rows that are laid end to end."""

        def attend(_: Group, queries_bLD: Tensor, keys_bLD: Tensor) -> Tensor:
            return self.attention(queries_bLD, keys_bLD, causal=True)

        queries = self.norm_attention(x_PD)
        return self._output(queries, rows.each(attend, queries, x_PD))

    def forward_last(self, x_BLD: Tensor, lengths_B: Tensor, bias_BHLT: Tensor | None = None) -> Tensor:
        """The block's output [B, D] at each row's last event (its first position, if it has none)."""
        rows_B, ends_B, seen_BL = row_ends(x_BLD, lengths_B)
        queries_B1D = self.norm_attention(x_BLD[rows_B, ends_B, None])
        attended_B1D = self.attention(
            queries_B1D, x_BLD, mask_BT=seen_BL, positions_BL=ends_B[:, None], bias_BHLT=bias_BHLT
        )
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
        kind = cfg.agreement
        self.agreement = (
            None if kind == "none" else Agreement(kind, blocks=cfg.blocks, heads=cfg.heads, dim=cfg.embed_dim)
        )

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
            attention=causal_attention(cfg),
        )

    def forward_layers(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        if self.agreement is None:
            return super().forward_layers(x_BLD, batch)
        return self.agreement(self.blocks, x_BLD, self.known_vectors(batch))

    def forward_layers_last(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        if self.agreement is None:
            return super().forward_layers_last(x_BLD, batch)
        return self.agreement.last(self.blocks, x_BLD, self.known_vectors(batch), lengths_B=batch.lengths_B)

    def known_vectors(self, batch: Batch) -> Tensor:
        """The item vectors [B, L, D] of the events, as the input's table has them."""
        vectors_BLD = self._own(batch.items_BL)
        if self.trained_V1 is not None and self.attributes is not None:
            vectors_BLD = vectors_BLD + self.attributes.summed(batch.items_BL)
        return batch.present(vectors_BLD)
