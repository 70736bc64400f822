"""What the verb `exposure` may be told."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.records import RestoringConfig
from seqrec_cli.config.schema import HardwareConfig


class ExposureConfig(RestoringConfig):
    """The verb `exposure`."""

    split: Literal["val", "test"] = Field(
        description="whose lists are measured; prices are learned from the lists of validation, without their targets"
    )
    strengths: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        min_length=1,
        description="the most that an owner's price may be, in standard deviations of a list's scores, ascending; 0: "
        "lists as they are",
    )
    cutoff: int = Field(ge=1, description="places of a list")
    rounds: int = Field(ge=1, description="subgradient steps of each strength's prices")
    users: int | None = Field(
        ge=1, description="at most so many histories that prices are learned from, the same ones every time; null: all"
    )
    keep: float | None = Field(
        description="one of the strengths, of which a run is written in run_dir: an encoder with the prices as its "
        "item bias, for evaluate, recommend, serve and export; null: none"
    )
    run_dir: str | None = Field(description="folder for exposure.json, .parquet and .png; null to print only")
    hardware: HardwareConfig

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        if list(self.strengths) != sorted(set(self.strengths)):
            raise ValueError(f"strengths={list(self.strengths)}: give each once, in ascending order")
        if self.keep is not None and self.keep not in self.strengths:
            raise ValueError(f"keep={self.keep:g} is none of strengths={list(self.strengths)}; name one of them")
        if self.keep is not None and self.run_dir is None:
            raise ValueError(f"keep={self.keep:g} writes a run, and run_dir=null; give run_dir=FOLDER")
        return self
