"""Settings of NextItNet."""

from typing import Annotated

from pydantic import Field

from seqrec_cli.config.model import Capabilities, EncoderConfig

Dilation = Annotated[int, Field(ge=1)]


class Config(EncoderConfig):
    """NextItNet's sizes."""

    capabilities = Capabilities(
        "encoder", causal=True, attends=False, recurrent=True, sparse_rows=True, inner_product=True, all_positions=False
    )

    dilations: tuple[Dilation, ...] = Field(
        min_length=1,
        description="one residual block each: the distance between the events that its first convolution reads; its "
        "second reads twice as far apart",
    )
    kernel: int = Field(ge=2, description="events that a convolution reads (the paper: 3)")
