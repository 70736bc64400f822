"""Settings of the next item by a full softmax."""

from typing import Self

from pydantic import Field, model_validator

from seqrec_cli.config.objective import Capabilities, EstimatedSoftmaxConfig, KnownItemsConfig


class Config(KnownItemsConfig, EstimatedSoftmaxConfig):
    """Softmax over all items."""

    capabilities = Capabilities(
        families=frozenset({"encoder"}), rows="windows", causal=True, sparse_rows=False, weights=True
    )

    owner_weight: float = Field(
        ge=0,
        description="weight of how far the owners of items are from being shown in proportion to what they interact: "
        "the divergence of their shares of a batch's softmax from their shares of events (Huang, section 4.5); 0: none",
    )

    @property
    def batch_statistics(self) -> dict[str, str]:
        given = f"objective.owner_weight={self.owner_weight:g}"
        return super().batch_statistics | ({given: "objective.owner_weight=0"} if self.owner_weight else {})

    @model_validator(mode="after")
    def _owners_share_the_corpus(self) -> Self:
        if self.owner_weight and self.negatives is not None:
            raise ValueError(
                f"objective.owner_weight={self.owner_weight:g} is of a softmax over the whole corpus, and "
                f"objective.negatives={self.negatives} estimates it; set objective.negatives=null, or owner_weight=0"
            )
        return self
