"""Settings of BERT4Rec's objective."""

from typing import Self

from pydantic import Field, model_validator

from seqrec_cli.config.objective import Capabilities, EstimatedSoftmaxConfig


class Config(EstimatedSoftmaxConfig):
    """Which events are hidden, and how."""

    capabilities = Capabilities(
        families=frozenset({"encoder"}), rows="windows", causal=False, sparse_rows=False, weights=True
    )

    needs_more_targets = "hides events anywhere in it"

    mask: float = Field(gt=0, le=1, description="share of a row's events that is hidden, at least one")
    random: float = Field(ge=0, le=1, description="share of the hidden events that become a random item, not a mask")
    keep: float = Field(ge=0, le=1, description="share of the hidden events that stay as they are")
    last: float = Field(ge=0, le=1, description="share of the rows that mask their final event alone")

    @property
    def idle(self) -> dict[str, str]:
        hidden = dict.fromkeys(("mask", "random", "keep"), "objective.last=1") if self.last == 1 else {}
        return super().idle | hidden

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.random + self.keep > 1:
            raise ValueError(f"objective.random={self.random} and objective.keep={self.keep} are more than 1 together")
        return self
