"""Settings of SASRec."""

from typing import Literal

from pydantic import Field

from seqrec_cli.config.model import Capabilities, TransformerConfig


class Config(TransformerConfig):
    """SASRec's variants."""

    capabilities = Capabilities(
        "encoder", causal=True, attends=True, recurrent=False, sparse_rows=True, inner_product=True, all_positions=False
    )

    norm: Literal["pre", "published"] = Field(description="pre-norm blocks with GELU, or the authors' blocks")
