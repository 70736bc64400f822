"""Settings of SASRec."""

from typing import Literal

from pydantic import Field

from seqrec_cli.config.model import Capabilities
from seqrec_cli.config.padding import PaddedConfig


class Config(PaddedConfig):
    """SASRec's variants."""

    capabilities = Capabilities(
        "encoder",
        causal=True,
        attends=True,
        recurrent=False,
        sparse_rows=True,
        inner_product=True,
        all_positions=False,
        packs=True,
    )

    norm: Literal["pre", "published"] = Field(description="pre-norm blocks with GELU, or the authors' blocks")
