"""What the verb `rollout` may be told."""

from typing import Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.records import RestoringConfig
from seqrec_cli.config.schema import HardwareConfig


class RolloutConfig(RestoringConfig):
    """The verb `rollout`."""

    split: Literal["val", "test"] = Field(description="whose held-out events are to be continued to")
    steps: int = Field(ge=1, description="events generated after each history")
    by: Literal["greedy", "sample", "beam"] = Field(
        description="greedy: the best of each step; sample: a draw of each step; beam: the likeliest sequence found"
    )
    temperature: float = Field(gt=0, description="by=sample: what scores are divided by; above 1 evens chances out")
    top_p: float = Field(gt=0, le=1, description="by=sample: the likeliest items are drawn from that have this chance")
    width: int = Field(ge=1, description="by=beam: sequences kept at each step")
    cutoff: int = Field(ge=1, description="how many of a step's best items may hold the true event")
    truth: bool = Field(description="score each step after the true events before it too: once more the work")
    users: int | None = Field(ge=1, description="at most so many users, the same ones every time; null for all")
    seed: int = Field(ge=0, description="seed of the draws")
    run_dir: str | None = Field(description="folder for rollout.json, .parquet and .png; null to print only")
    hardware: HardwareConfig

    @model_validator(mode="after")
    def _settings_are_used(self) -> Self:
        for name, by, unused in (("temperature", "sample", 1.0), ("top_p", "sample", 1.0), ("width", "beam", 1)):
            if self.by != by and getattr(self, name) != unused:
                raise ValueError(f"{name}={getattr(self, name)} is of by={by}, and by={self.by}; leave {name} out")
        return self
