"""Settings of DIN."""

from typing import Literal

from pydantic import Field

from seqrec_cli.config.model import Capabilities, InterestConfig, Width


class Config(InterestConfig):
    """DIN's sizes and variants."""

    capabilities = Capabilities(
        "ranker", causal=True, attends=False, recurrent=False, sparse_rows=True, inner_product=False, all_positions=True
    )

    unit: tuple[Width, ...] = Field(
        min_length=1, description="widths of the activation unit (the paper: 36; its code: 80, 40)"
    )
    unit_activation: Literal["dice", "prelu", "sigmoid"] = Field(
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
        return super().batch_statistics | (unit if self.unit_activation == "dice" else {})
