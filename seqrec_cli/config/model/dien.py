"""Settings of DIEN."""

from typing import Literal

from pydantic import Field

from seqrec_cli.config.model import Capabilities, InterestConfig


class Config(InterestConfig):
    """DIEN's sizes and variants."""

    capabilities = Capabilities(
        "ranker", causal=True, attends=False, recurrent=True, sparse_rows=True, inner_product=False, all_positions=True
    )

    hidden: int | None = Field(ge=1, description="width of both GRUs; null: that of an item's joined vectors")
    evolution: Literal["augru", "agru", "aigru"] = Field(
        description="attention scales the update gate (the paper's choice), replaces it, or scales the input"
    )
    auxiliary: float = Field(ge=0, description="weight of the loss that has each state tell its next event")
    pooled: bool = Field(
        description="whether the MLP also reads the history's mean and its product with the candidate (as in its code)"
    )

    @property
    def history_negatives(self) -> int:
        return int(self.auxiliary > 0)
