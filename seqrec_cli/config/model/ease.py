"""Settings of EASE."""

from pydantic import Field

from seqrec_cli.config.model import Capabilities, ModelConfig


class Config(ModelConfig):
    """The ridge, and how a history is asked."""

    capabilities = Capabilities(
        "closed_form",
        causal=True,
        attends=False,
        recurrent=False,
        sparse_rows=False,
        inner_product=True,
        all_positions=False,
    )

    embed_dim: int = Field(ge=1, description="eigenvectors kept; from the number of items on, the weights are exact")
    exact_items: int = Field(
        ge=0,
        description="up to so many items all pairs are solved at once, in memory that grows with their square; beyond, "
        "by the largest eigenvectors alone",
    )
    l2: float = Field(gt=0, description="the ridge, in users: how many must share two items to tell them related")
    half_life: float = Field(gt=0, description="events after which an event counts half")
    scale: float = Field(gt=0, description="what scores are multiplied by: in an ensemble, the model's weight")
