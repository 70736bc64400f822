"""What `serve` may be told of an online experiment: the runs, the users' shares, the salt, the log."""

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from seqrec_cli.config.stages import AnsweringConfig

Share = Annotated[float, Field(gt=0, lt=1)]
CLOSE = 1e-6  # to 1, for shares that were rounded


class ExperimentConfig(AnsweringConfig):
    """Several runs at once, each for its share of the users."""

    others: ClassVar[str] = ", or several as 'runs=[A,B]'"

    runs: tuple[str, ...] | None = Field(
        min_length=2,
        description="runs that answer at once, each its share of the users: '[runs/a,runs/b]', the one to compare with "
        "first; null: ckpt alone",
    )
    split: Share | tuple[Share, ...] | None = Field(
        description="shares of the users, one a run and 1 together, as '[.5,.3,.2]'; a number is the first's of two; "
        "null: equal ones"
    )
    salt: str = Field(min_length=1, description="name of the experiment: with another one users are dealt anew")
    log: str | None = Field(
        description="where exposures and feedback are written: FILE.jsonl, or a folder with a file a process; "
        "null: nowhere"
    )

    @property
    def has_arms(self) -> bool:
        return self.runs is not None

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """What names the arms: their runs, or without an experiment the run (of two stages the ranker) that answers."""
        return self.runs or self.parts[-1:]

    @property
    def shares(self) -> tuple[float, ...]:
        """The users' shares, one an arm."""
        arms = len(self.checkpoints)
        if self.split is None:
            return (1 / arms,) * arms
        return self.split if isinstance(self.split, tuple) else (self.split, round(1 - self.split, 12))

    @model_validator(mode="after")
    def _one_run_or_several(self) -> "ExperimentConfig":
        if self.runs is not None and (self.ckpt or self.ranker) is not None:
            named = "ckpt" if self.ckpt is not None else "ranker"
            raise ValueError(
                f"{named} and runs exclude each other: one run, or two stages, answer alone; runs=[A,B] share the users"
            )
        if self.split is None:
            return self
        if self.runs is None:
            raise ValueError("split: one run answers everybody; give several as 'runs=[A,B]', or leave split out")
        if len(self.shares) != len(self.runs):
            raise ValueError(f"split: {len(self.shares)} shares for {len(self.runs)} runs; give one a run")
        if abs(sum(self.shares) - 1) > CLOSE:
            raise ValueError(f"split: the shares add up to {sum(self.shares):g}; make it 1")
        return self
