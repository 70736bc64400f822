"""What click rankers have in common in a configuration."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from seqrec_cli.config.schema import ModelConfig

Width = Annotated[int, Field(ge=1)]


class RankerConfig(ModelConfig):
    """What every ranker has that embeds users and items and ends in an MLP (`models/ranker.py`)."""

    sparse_rows: ClassVar[bool] = True

    embed_dim: int = Field(ge=1, description="width of every embedding: an item's own and each attribute's")
    user_id: bool = Field(description="whether the MLP also reads a vector of the user's own")
    mlp: tuple[Width, ...] = Field(strict=False, min_length=1, description="widths of the MLP's layers")
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


class InterestConfig(RankerConfig):
    """What every ranker has that makes one vector of a history and reads it by an MLP (`models/interest.py`)."""

    all_positions: ClassVar[bool] = True

    activation: Literal["dice", "prelu", "relu"] = Field(
        description="activation of the MLP; dice and prelu have learned slopes"
    )
    batch_norm: bool = Field(description="batch normalisation in front of the MLP's activations, padding left out")
    dropout: float = Field(ge=0, lt=1, description="dropout of the MLP (CPU: steps of 1/256)")
    init_std: float = Field(gt=0, description="standard deviation of the initial embeddings")
