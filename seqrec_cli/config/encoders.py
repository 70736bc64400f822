"""What every next-item encoder can be set to: how it tells places apart, what it knows of events and users beside the
item itself, and how its states become scores (`models/encoder.py`)."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.schema import ModelConfig

Positions = Literal["absolute", "reversed", "rotary", "relative", "none"]
IN_ATTENTION = frozenset({"rotary", "relative"})  # positions that act on a query and a key, not on the input


class EncoderConfig(ModelConfig):
    """Shared by all encoders, each in front of its own layers or behind them."""

    family: ClassVar[Literal["encoder", "ranker", "closed_form"]] = "encoder"
    inner_product: ClassVar[bool] = True
    sparse_rows: ClassVar[bool] = True
    attends: ClassVar[bool] = True  # has queries and keys, which some kinds of positions act on

    embed_dim: int = Field(ge=1, description="width of item vectors and hidden states")
    dropout: float = Field(ge=0, lt=1, description="dropout of embeddings and layer outputs (CPU: steps of 1/256)")
    event_dropout: float = Field(
        ge=0,
        lt=1,
        description="share of training events that lose their item and its attributes, whole vectors at once",
    )
    positions: Positions = Field(
        description="places counted from the window's start, or from its end; inside attention, by rotating queries "
        "and keys, or by a learned bias for each distance; or not at all"
    )
    attributes: Literal["none", "add", "concat"] = Field(
        description="the vectors of the items' attributes (genres, ...) in the input: left out, added to the item's "
        "own, or joined with it and projected to its width"
    )
    user_dim: int = Field(ge=0, description="width of a vector of the user's own, projected into the input; 0: none")
    user_dropout: float = Field(
        ge=0, lt=1, description="share of training rows whose user is taken for an unknown one, who has a zero vector"
    )
    tied: bool = Field(description="events are scored against the input's item table, not a table of their own")
    item_bias: bool = Field(description="a learned number an item, added to its scores")
    temperature: float | None = Field(
        gt=0, description="scores are cosines divided by it (L2-normalised states and items); null: inner products"
    )
    init_std: float | None = Field(
        gt=0, description="standard deviation of the initial embeddings; null: Xavier's, for tables and layers"
    )

    @model_validator(mode="after")
    def _positions_fit(self) -> Self:
        if self.positions in IN_ATTENTION and not self.attends:
            raise ValueError(
                f"model.positions={self.positions} acts on the queries and keys of attention, and model={self.name} "
                "has none; use absolute, reversed or none"
            )
        return self
