"""Settings of LRURec."""

from typing import Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.model import Capabilities, EncoderConfig


class Config(EncoderConfig):
    """LRURec's sizes and variants."""

    capabilities = Capabilities(
        "encoder", causal=True, attends=False, recurrent=True, sparse_rows=True, inner_product=True, all_positions=False
    )

    blocks: int = Field(ge=1, le=1000, description="recurrent units, each with a feed-forward layer")
    states: int = Field(ge=1, description="complex numbers of a unit's state (the paper: 2 embed_dim)")
    ring: tuple[float, float] = Field(
        description="least and greatest decay a step, in absolute value, that a unit starts with"
    )
    ffn_dim: int = Field(ge=1, description="inner width of the feed-forward layers (the paper: 4 embed_dim)")
    norm: Literal["post", "pre"] = Field(description="norms behind the residual sums (published), or before the layers")

    @model_validator(mode="after")
    def _ring_is_inside(self) -> Self:
        inner, outer = self.ring
        if not 0 < inner < outer < 1:
            raise ValueError(f"model.ring={list(self.ring)}: two decays between 0 and 1, the smaller one first")
        return self
