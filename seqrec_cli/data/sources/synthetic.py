"""Sequences from a process that is known, so that a model's score can be set beside the best possible one.

The process is in `data/process.py`.
"""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.data.raw import RawLog


class Config(DatasetConfig):
    """How many users, items and events there are, and how well the next event can be foretold."""

    raw_is_generated: ClassVar[bool] = True

    users: int = Field(ge=1, description="users")
    items: int = Field(ge=3, description="items")
    categories: int = Field(ge=1, description="item categories")
    segments: int = Field(ge=1, description="user segments, each with categories it likes")
    min_events: int = Field(ge=1, description="fewest events of a user")
    max_events: int = Field(ge=1, description="most events of a user")
    predictability: float = Field(ge=0, le=1, description="part of events that follow from a recent one")
    lag_weights: tuple[float, ...] = Field(
        min_length=1, description="how often an event follows from the last, second-last, ... one"
    )
    successors: int = Field(ge=1, description="items that may follow from an item")
    own_successors: float = Field(ge=0, le=1, description="part of them that is the item's own, not its category's")
    successor_decay: float = Field(ge=0, description="Zipf exponent of the successors' weights")
    linked: float = Field(
        ge=0, le=1, description="part of successors drawn from the item's category and the one after it"
    )
    popularity_decay: float = Field(ge=0, description="Zipf exponent of the items' popularity")
    affinity: float = Field(ge=1, description="how much more a segment takes from a category it likes")
    session_events: float = Field(ge=1, description="mean events a session")
    session_gap: float = Field(gt=0, description="mean seconds between events of a session")
    between_hours: tuple[float, float] = Field(description="least and most hours between sessions")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not self.min_events <= self.max_events < self.items:
            raise ValueError(
                "dataset.min_events <= dataset.max_events < dataset.items is needed (no user repeats an item), got "
                f"{self.min_events}, {self.max_events}, {self.items}"
            )
        if 2 * self.successors >= self.items:
            raise ValueError(f"dataset.successors={self.successors} must be below half of dataset.items={self.items}")
        if self.categories > self.items:
            raise ValueError(f"dataset.categories={self.categories} exceeds dataset.items={self.items}")
        if min(self.lag_weights) < 0 or sum(self.lag_weights) <= 0 or self.lag_weights[0] <= 0:
            raise ValueError("dataset.lag_weights must not be negative, and the first must be above 0")
        if not 0 < self.between_hours[0] <= self.between_hours[1]:
            raise ValueError(f"dataset.between_hours must rise from above 0, got {list(self.between_hours)}")
        return self


def read(cfg: Config, path: Path | None) -> RawLog:
    """All events of the process; the same for the same settings."""
    from seqrec_cli.data.process import SyntheticProcess  # it needs this module's Config

    return SyntheticProcess(cfg).generate()
