"""What the verb `counterfactual` may be told."""

from typing import Literal

from pydantic import Field

from seqrec_cli.config.objective.unbiased_click import CLIP, PROPENSITIES, Chance
from seqrec_cli.config.records import RestoringConfig
from seqrec_cli.config.schema import Cutoff, HardwareConfig


class CounterfactualConfig(RestoringConfig):
    """The verb `counterfactual`."""

    split: Literal["val", "test"] = Field(description="whose logged requests are ordered anew")
    outcome: str | None = Field(
        description="a run whose probabilities stand for relevance in the direct estimate, and for what clip cuts off "
        "in the doubly robust one; null: neither is made"
    )
    propensities: tuple[Chance, ...] | None = Field(min_length=1, description=PROPENSITIES)
    clip: float = Field(ge=1, description=CLIP)
    cutoffs: tuple[Cutoff, ...] = Field(min_length=1, description="the k of a top k that earns 1, beside mrr and dcg")
    run_dir: str | None = Field(description="folder for counterfactual.json; null to print only")
    hardware: HardwareConfig
