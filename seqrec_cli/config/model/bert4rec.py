"""Settings of BERT4Rec."""

from typing import Literal

from pydantic import Field

from seqrec_cli.config.model import Capabilities, TransformerConfig


class Config(TransformerConfig):
    """BERT4Rec's variants."""

    capabilities = Capabilities(
        "encoder",
        causal=False,
        attends=True,
        recurrent=False,
        sparse_rows=False,
        inner_product=True,
        all_positions=False,
    )

    max_length: int = Field(ge=2, description="positions the model reads, the latest events and, to predict, a mask")
    ffn_dropout: float = Field(ge=0, lt=1, description="dropout of the feed-forward layers' inner activations")
    norm: Literal["pre", "post"] = Field(description="LayerNorm before each layer, or after each residual (published)")
    embedding_norm: bool = Field(description="LayerNorm of the embeddings, as in BERT")
    head: Literal["gelu", "linear"] = Field(
        description="before the product with the items: a GELU layer (published), or nothing"
    )
