"""How far a study's trials are followed at first, and which of them further."""

from pydantic import Field

from seqrec_cli.config.settings import Settings


class HorizonConfig(Settings):
    """Successive halving over epochs: many short runs, the best of them anew and longer."""

    epochs: int | None = Field(
        ge=1,
        description="trainer.max_epochs of a new trial, shorter than the study's own; null: every trial has all epochs",
    )
    factor: int = Field(
        ge=2, description="the best one in so many is followed, for so many times its epochs, up to the study's own"
    )
    checks: int = Field(
        ge=0,
        description="trials that are not among the best and are followed all the same, so that it shows whether short "
        "runs order settings as long ones do",
    )
    agreement: float = Field(
        ge=-1,
        le=1,
        description="rank correlation (Spearman) of short and long runs, below which the first horizon is doubled",
    )
