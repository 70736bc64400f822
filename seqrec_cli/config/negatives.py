"""Settings of objectives with sampled negatives."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.rules import drawn_as_asked
from seqrec_cli.config.schema import WindowObjectiveConfig


class NegativesConfig(WindowObjectiveConfig):
    """An objective that sets a position's target against sampled items."""

    sparse_rows: ClassVar[bool] = True

    negatives: int = Field(ge=1, description="items drawn, with replacement, for each position, sequence or batch")
    shared: Literal["position", "sequence", "batch"] = Field(
        description="whose negatives are the same: nobody's, a history's positions', or all targets' of a batch"
    )
    sampling: Literal["unseen", "uniform", "popularity", "in_batch", "mixed"] = Field(
        description="how they are drawn: from items the user has not seen, from all alike, by training events, from "
        "the batch's targets, or from these and from all items"
    )
    uniform_share: float = Field(gt=0, lt=1, description="for sampling=mixed: the share drawn from all items alike")

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        drawn_as_asked(self.sampling, self.shared, self.negatives, self.uniform_share)
        return self
