"""Settings of DIN."""

from typing import Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.model import Capabilities, Width
from seqrec_cli.config.rankers import InterestConfig, UnitActivation


class Config(InterestConfig):
    """DIN's sizes and variants."""

    capabilities = Capabilities(
        "ranker", causal=True, attends=False, recurrent=False, sparse_rows=True, inner_product=False, all_positions=True
    )

    score: Literal["unit", "dot", "scaled_dot", "additive"] = Field(
        description="how an event is compared with the candidate: by the activation unit, an MLP over both (the "
        "paper), their inner product, that over the root of its width, or one additive layer with tanh"
    )
    unit: tuple[Width, ...] = Field(
        min_length=1,
        description="widths of the activation unit (the paper: 36; its code: 80, 40), or the one of score=additive",
    )
    unit_activation: UnitActivation = Field(
        description="activation of the unit (the paper: dice or prelu; its code: sigmoid)"
    )
    softmax: bool = Field(description="whether an event's weights are normalised over the history (the paper: false)")
    search_attribute: str | None = Field(
        description="read those events alone that share this item attribute with the candidate; null: all events"
    )
    search_events: int = Field(ge=1, description="events read of those found, the latest kept (search_attribute)")

    @property
    def batch_statistics(self) -> dict[str, str]:
        unit = {"model.unit_activation=dice": "model.unit_activation=prelu"}
        return super().batch_statistics | (unit if self.score == "unit" and self.unit_activation == "dice" else {})

    @property
    def idle(self) -> dict[str, str]:
        found = super().idle
        if self.score != "unit":
            found["unit_activation"] = f"model.score={self.score}"
        if self.score in ("dot", "scaled_dot"):
            found["unit"] = f"model.score={self.score}"
        if self.search_attribute is None:
            found["search_events"] = "model.search_attribute=null"
        return found

    @model_validator(mode="after")
    def _one_additive_layer(self) -> Self:
        if self.score == "additive" and len(self.unit) > 1:
            raise ValueError(
                f"model.score=additive has one layer: give model.unit={list(self.unit)} one width, as [36]"
            )
        return self
