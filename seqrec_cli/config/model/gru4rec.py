"""Settings of GRU4Rec."""

from pydantic import Field

from seqrec_cli.config.model import Capabilities, EncoderConfig


class Config(EncoderConfig):
    """GRU4Rec's sizes."""

    capabilities = Capabilities(
        "encoder", causal=True, attends=False, recurrent=True, sparse_rows=True, inner_product=True, all_positions=False
    )

    layers: int = Field(ge=1, le=1000, description="recurrent layers, one on another")
    hidden: int = Field(ge=1, description="width of the recurrent states (the paper: 100 to 1000)")
