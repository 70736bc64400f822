"""Settings of FMLP-Rec."""

from typing import Literal

from pydantic import Field

from seqrec_cli.config.model import Capabilities, EncoderConfig


class Config(EncoderConfig):
    """FMLP-Rec's sizes and variants."""

    capabilities = Capabilities(
        "encoder",
        causal=True,
        attends=False,
        recurrent=False,
        sparse_rows=True,
        inner_product=True,
        all_positions=False,
    )

    blocks: int = Field(ge=1, le=1000, description="filters, each with a feed-forward layer")
    ffn_dim: int = Field(ge=1, description="inner width of the feed-forward layers (the paper: 4 embed_dim)")
    filter: Literal["row", "causal"] = Field(
        description="what is filtered: the whole row, later events too (published; with objective.window=prefixes), or "
        "each position's events up to it"
    )
    filter_std: float = Field(gt=0, description="standard deviation of the filters' initial complex weights")

    @property
    def looks_ahead(self) -> str:
        return "model.filter=causal" if self.filter == "row" else ""
