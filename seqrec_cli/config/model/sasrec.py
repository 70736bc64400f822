"""Settings of SASRec."""

from typing import Literal, Self

from pydantic import Field, model_validator

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
    agreement: Literal["none", "bias", "pooling"] = Field(
        description="what a known event's layer output and its item's vector have in common, as their cosine: not "
        "used; a learned share of it added to the logits of attention to the event, from the second block on; or the "
        "output also reads the mean of the known item vectors, weighed by it"
    )

    @model_validator(mode="after")
    def _agreement_has_a_place(self) -> Self:
        if self.agreement == "bias" and self.blocks == 1:
            raise ValueError(
                "model.agreement=bias acts from the second block on, and model.blocks=1; use more, or pooling"
            )
        if self.agreement == "bias" and self.attention_form != "softmax":
            raise ValueError(
                f"model.agreement=bias adds to the logits of attention over all events, and model.attention_form="
                f"{self.attention_form}; use softmax, or model.agreement=pooling"
            )
        return self
