"""SASRec: self-attention over the history, next item at every position (Kang & McAuley 2018, arXiv 1808.09781).

`norm: published` is the authors' network: queries alone are normed, the residual continues from the normed
queries, heads are joined without a projection, ReLU inside (with ffn_dim = embed_dim), items scaled by sqrt(D).
`norm: pre` is today's pre-norm transformer with GELU, which trains better with softmax losses (SASRec+,
arXiv 2309.07602).

Legend: B rows, L history events, D width, V items.
"""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from seqrec_cli.config.rules import heads_divide
from seqrec_cli.config.schema import ModelConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import SequenceEncoder, full_precision
from seqrec_cli.models.parts.attention import MultiHeadAttention
from seqrec_cli.models.parts.dropout import Dropout
from seqrec_cli.models.parts.embedding import padded_table
from seqrec_cli.models.parts.initialise import initialise
from seqrec_cli.models.parts.mlp import FeedForward
from seqrec_cli.models.parts.positions import PositionEmbedding, check_window
from seqrec_cli.models.parts.transformer import TransformerBlock


class Config(ModelConfig):
    """SASRec's sizes and variants."""

    family: ClassVar[Literal["encoder", "ranker", "counter"]] = "encoder"
    sparse_rows: ClassVar[bool] = True

    embed_dim: int = Field(ge=1, description="width of item vectors and hidden states")
    blocks: int = Field(ge=1, description="transformer blocks")
    heads: int = Field(ge=1, description="attention heads; divides embed_dim")
    ffn_dim: int = Field(ge=1, description="inner width of the feed-forward layers (the paper: embed_dim)")
    dropout: float = Field(ge=0, lt=1, description="dropout of embeddings and layer outputs (CPU: steps of 1/256)")
    attention_dropout: float = Field(ge=0, lt=1, description="dropout of attention weights")
    norm: Literal["pre", "published"] = Field(description="pre-norm blocks with GELU, or the authors' blocks")
    positions: Literal["absolute", "reversed", "none"] = Field(
        description="places counted from the window's start, from its end (as published), or not at all"
    )
    init_std: float = Field(gt=0, description="standard deviation of the initial embeddings")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        heads_divide(self.embed_dim, self.heads)
        return self


class PublishedBlock(nn.Module):
    """One block of the authors' network (section III.B, and their code where the paper is silent)."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(cfg.embed_dim, cfg.heads, cfg.attention_dropout, project=False)
        self.feed_forward = FeedForward(cfg.embed_dim, cfg.ffn_dim, "relu", cfg.dropout)
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(cfg.embed_dim), nn.LayerNorm(cfg.embed_dim)
        self.drop = Dropout(cfg.dropout)

    def forward(self, x_BLD: Tensor, causal: bool) -> Tensor:
        queries = self.norm_attention(x_BLD)
        x = self.norm_feed_forward(queries + self.attention(queries, x_BLD, causal))
        wide: Tensor = x + self.drop(self.feed_forward(x))
        return wide


class Model(SequenceEncoder):
    """Causal transformer whose output layer is the item table."""

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.max_length = cfg.max_length
        self.items = padded_table(catalog.num_items + 1, cfg.embed_dim)
        self.places = PositionEmbedding(cfg.positions, cfg.max_length, cfg.embed_dim)
        self.scale = cfg.embed_dim**0.5 if cfg.norm == "published" else 1.0
        self.drop = Dropout(cfg.dropout)
        self.blocks = nn.ModuleList(self._block(cfg) for _ in range(cfg.blocks))
        self.norm = nn.LayerNorm(cfg.embed_dim)
        initialise(self, cfg.init_std)

    @staticmethod
    def _block(cfg: Config) -> nn.Module:
        if cfg.norm == "published":
            return PublishedBlock(cfg)
        return TransformerBlock(
            cfg.embed_dim, cfg.heads, cfg.ffn_dim, "pre", "gelu", cfg.dropout, cfg.attention_dropout
        )

    def encode(self, batch: Batch) -> Tensor:
        x_BLD = self._embed(batch)
        for block in self.blocks:  # rows end in padding, which nothing before it can see: no mask is needed
            x_BLD = block(x_BLD, causal=True)
        return self._read(x_BLD)

    def last(self, batch: Batch) -> Tensor:
        *lower, top = self.blocks
        if not isinstance(top, TransformerBlock):
            return super().last(batch)
        x_BLD = self._embed(batch)
        for block in lower:
            x_BLD = block(x_BLD, causal=True)
        return self._read(top.at_end(x_BLD, batch.lengths_B))

    def _embed(self, batch: Batch) -> Tensor:
        check_window(batch.items_BL, self.max_length)
        embedded: Tensor = self.drop(self.places(self.items(batch.items_BL) * self.scale, batch.lengths_B))
        return embedded

    def _read(self, x: Tensor) -> Tensor:
        with full_precision(x.device):
            hidden: Tensor = self.norm(x.float())
        return hidden

    def item_table(self) -> Tensor:
        return self.items.weight
