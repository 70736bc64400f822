"""What the verb `explain` may be told."""

from typing import Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.records import RequestConfig, RestoringConfig
from seqrec_cli.config.settings import Settings


class DeletionConfig(Settings):
    """The deletion test of `check=true`."""

    removed: int = Field(ge=1, description="events that are left out of a history together")
    users: int = Field(ge=1, description="validation requests that are tested, each for its best item")
    draws: int = Field(ge=1, description="draws of random other events, whose changes are averaged")
    seed: int = Field(ge=0, description="seed of the draws, and of the choice of requests")


class ExplainConfig(RequestConfig, RestoringConfig):
    """The verb `explain`."""

    newer: str | None = Field(
        description="a later raw file of the run's kind: users and histories are from it; null: the run's own"
    )
    item: str | int | None = Field(description="the raw id of the item to explain; null for those recommended")
    top: int = Field(ge=1, description="recommended items to explain, best first")
    method: Literal["auto", "attention", "leave_one_out", "integrated_gradients"] = Field(
        description="attention: the model's own weights (din, dien, dsin, bst); leave_one_out: the score less the "
        "score without the event; integrated_gradients: of the score along the events' vectors; auto: attention where "
        "the model has it, else leave_one_out"
    )
    events: int = Field(ge=1, description="past events shown for an item, those that weigh most; the file has all")
    order: Literal["weight", "time"] = Field(description="events shown heaviest first, or along the history")
    gap: float = Field(
        gt=0,
        lt=1,
        description="integrated_gradients: how far the weights' sum may miss the score less its baseline, as a share "
        "of all that is attributed",
    )
    points: int = Field(ge=1, le=65536, description="integrated_gradients: points of the path at most")
    check: bool = Field(
        description="also test whether leaving out the events named changes the score more than leaving out others"
    )
    deletion: DeletionConfig
    out: str | None = Field(
        description="the picture's file, beside which a .json of all weights is written; null for explain_USER.png in "
        "the run's folder"
    )

    @model_validator(mode="after")
    def _about_somebody(self) -> Self:
        if self.user is None and self.history is None:
            raise ValueError("whose scores? give user=ID, or history=[ITEM,...] with the latest last")
        return self
