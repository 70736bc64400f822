"""Settings of DIEN."""

from typing import Literal

from pydantic import Field

from seqrec_cli.config.model import Capabilities, Width
from seqrec_cli.config.rankers import InterestConfig, UnitActivation


class Config(InterestConfig):
    """DIEN's sizes and variants."""

    capabilities = Capabilities(
        "ranker", causal=True, attends=False, recurrent=True, sparse_rows=True, inner_product=False, all_positions=True
    )

    hidden: int | None = Field(ge=1, description="width of both GRUs; null: that of an item's joined vectors")
    attention: Literal["bilinear", "unit"] = Field(
        description="how an interest is compared with the candidate: by a matrix between them (the paper, eq. 8), or "
        "by DIN's activation unit (its code)"
    )
    unit: tuple[Width, ...] = Field(
        min_length=1, description="widths of the activation unit (attention=unit; the code: 80, 40)"
    )
    unit_activation: UnitActivation = Field(description="its activation (attention=unit; the code: sigmoid)")
    evolution: Literal["augru", "augru_keep", "agru", "aigru"] = Field(
        description="attention a scales the update gate (the paper's choice); (1 - a) scales what the gate keeps (its "
        "code); attention replaces the gate, or scales the input"
    )
    auxiliary: float = Field(ge=0, description="weight of the loss that has each state tell its next event")
    auxiliary_negatives: Literal["uniform", "popularity"] = Field(
        description="the unseen items it is told from: drawn from all alike, or by training events (the code)"
    )
    auxiliary_mlp: tuple[Width, ...] | None = Field(
        min_length=1,
        description="widths of an MLP over a state and an event that tells them (the code: 100, 50); null: their inner "
        "product (the paper, eq. 7)",
    )
    pooled: Literal["none", "mean", "sum"] = Field(
        description="whether the MLP also reads the history's mean or sum (the code: sum) and its product with the "
        "candidate"
    )

    @property
    def history_negatives(self) -> int:
        return int(self.auxiliary > 0)

    @property
    def history_negatives_by_popularity(self) -> bool:
        return self.auxiliary_negatives == "popularity"

    @property
    def batch_statistics(self) -> dict[str, str]:
        unit = {"model.unit_activation=dice": "model.unit_activation=prelu"}
        reads = self.attention == "unit" and self.unit_activation == "dice"
        return super().batch_statistics | (unit if reads else {})

    @property
    def idle(self) -> dict[str, str]:
        found = super().idle
        if self.attention == "bilinear":
            found |= dict.fromkeys(("unit", "unit_activation"), "model.attention=bilinear")
        if not self.auxiliary:
            found |= dict.fromkeys(("auxiliary_negatives", "auxiliary_mlp"), "model.auxiliary=0")
        return found
