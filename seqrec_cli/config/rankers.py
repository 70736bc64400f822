"""What click rankers have in common in a configuration; each one's own settings are a file of the folder `model`."""

from typing import Literal

from pydantic import Field

from seqrec_cli.config.model import ModelConfig, Width

UnitActivation = Literal["dice", "prelu", "sigmoid"]  # of DIN's activation unit


class RankerConfig(ModelConfig):
    """What every click ranker has that embeds users and items and ends in an MLP (`models/ranker.py`)."""

    embed_dim: int = Field(ge=1, description="width of every embedding: an item's own and each attribute's")
    user_id: bool = Field(description="whether the MLP also reads a vector of the user's own")
    widths: dict[str, Width] | None = Field(
        description="widths of features that are not embed_dim wide, by name (item_id, user_id, an attribute, a "
        "context column, item_vectors); null: none"
    )
    mlp: tuple[Width, ...] = Field(min_length=1, description="widths of the MLP's layers")
    embedding_dropout: float = Field(ge=0, lt=1, description="dropout of embeddings (CPU: steps of 1/256)")
    unknown: float = Field(
        ge=0,
        lt=1,
        description="share of ids hidden in training, so that items and users without training events have a learned "
        "vector beside their attributes'; 0: they have an untrained one",
    )
    l2: float = Field(
        ge=0,
        description="L2 of the vectors of a batch's items and users, each over its training events (DIN, eq. 6)",
    )
    l2_counts: Literal["once", "occurrences"] = Field(
        description="how often a vector counts in it: once a batch (DIN, eq. 6), or as often as the batch holds it"
    )
    l2_attributes: bool = Field(description="whether the vectors of the attributes' values count in it as well")
    dropout: float = Field(ge=0, lt=1, description="dropout of layer outputs and the MLP (CPU: steps of 1/256)")
    init_std: float = Field(gt=0, description="standard deviation of the initial embeddings")

    @property
    def reads_context(self) -> bool:
        return True

    @property
    def idle(self) -> dict[str, str]:
        found = super().idle
        if not self.l2:
            found |= dict.fromkeys(("l2_counts", "l2_attributes"), "model.l2=0")
        return found


class InterestConfig(RankerConfig):
    """What every ranker has that makes one vector of a history and reads it by an MLP (`models/interest.py`)."""

    activation: Literal["dice", "prelu", "relu"] = Field(
        description="activation of the MLP; dice and prelu have learned slopes"
    )
    batch_norm: bool = Field(description="batch normalisation in front of the MLP's activations, padding left out")

    @property
    def batch_statistics(self) -> dict[str, str]:
        return mlp_statistics(self.activation, self.batch_norm)


def mlp_statistics(activation: str, batch_norm: bool) -> dict[str, str]:
    """The settings by which an MLP reads statistics of a batch, and what to set instead (`batch_statistics`)."""
    found = {"model.activation=dice": "model.activation=prelu"} if activation == "dice" else {}
    return found | ({"model.batch_norm=true": "model.batch_norm=false"} if batch_norm else {})
