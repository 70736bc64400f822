"""The record of `seqrec tune`: the settings of `train`, a space of values for some of them, and how it is searched."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.adviser import AdviserConfig
from seqrec_cli.config.horizon import HorizonConfig
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.settings import Settings

Value = bool | int | float | str | None | tuple[int | float | str, ...]
FILLED_IN = ("given", "config_dir")  # by `commands/dispatch.py`


def _as_tuples(value: Any) -> Any:
    """Lists as records hold them: strict mode takes a list for a tuple in JSON alone."""
    if isinstance(value, dict):
        return {key: _as_tuples(each) for key, each in value.items()}
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


class SpaceEntry(Settings):
    """The values that one setting may take. A key that an entry leaves out is null."""

    type: Literal["float", "int", "choice"] = Field(description="numbers, whole numbers, or one of some values")
    low: int | float | None = Field(description="the least, of float and int")
    high: int | float | None = Field(description="the most, of float and int")
    log: bool | None = Field(description="drawn evenly by its logarithm; null: by its value")
    step: int | float | None = Field(gt=0, description="multiples of it above low alone; null: any number")
    values: tuple[Value, ...] | None = Field(min_length=1, description="what a choice is among")
    when: dict[str, Value | tuple[Value, ...]] | None = Field(
        description="settings, each with the value or values that the entry needs; null: it always applies"
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("write it as {type: float, low: 0.1, high: 0.5}, or {type: choice, values: [1, 2]}")
        if "type" not in value:
            nested = [name for name, each in value.items() if isinstance(each, dict) and "type" in each]
            if nested:
                raise ValueError(f"an entry stands by its whole key, with dots: ....{nested[0]}: {{type: ...}}")
            raise ValueError("it has no type: float, int or choice")
        return dict.fromkeys(cls.model_fields) | _as_tuples(value)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        numbers = {"low": self.low, "high": self.high, "log": self.log, "step": self.step}
        if self.type == "choice":
            odd = [name for name, value in numbers.items() if value is not None]
            if self.values is None or odd:
                raise ValueError(f"a choice has values{' and no ' + odd[0] if odd else ', such as values: [32, 64]'}")
            if len(set(map(repr, self.values))) < len(self.values):
                raise ValueError("a value stands twice among its values")
            return self
        if self.low is None or self.high is None or self.values is not None:
            raise ValueError(f"type: {self.type} has low and high, and no values")
        if self.low > self.high:
            raise ValueError(f"low={self.low:g} is above high={self.high:g}")
        if self.log and (self.step is not None or self.low <= 0):
            raise ValueError("log: true needs low above 0, and no step")
        if self.type == "int" and any(isinstance(numbers[name], float) for name in ("low", "high", "step")):
            raise ValueError("type: int has whole numbers for low, high and step")
        return self

    @property
    def ends(self) -> tuple[int | float, int | float]:
        """The least and the most, of numbers."""
        if self.low is None or self.high is None:
            raise TypeError("a choice has values and no ends")
        return self.low, self.high


class TuneSettings(Settings):
    """How a space is searched."""

    sampler: Literal["tpe", "cmaes", "random", "grid", "adviser"] = Field(
        description="who names the next settings: Parzen estimators, CMA-ES, chance, every combination in turn, or a "
        "language model"
    )
    pruner: Literal["median", "hyperband", "patience", "none"] = Field(
        description="what ends a run early, by its validations so far: worse than the median of earlier runs at that "
        "point, a race of halvings, or no improvement"
    )
    trials: int | None = Field(ge=1, description="runs, at most, ended early or not; null: no limit")
    minutes: float | None = Field(gt=0, description="minutes in which the study ran, at most; null: no limit")
    epochs: int | None = Field(ge=1, description="epochs of all runs together, at most; null: no limit")
    workers: int = Field(ge=1, description="processes, each with its share of the cores")
    storage: Literal["journal", "sqlite"] = Field(
        description="journal: a file that several machines may share; sqlite: a database on this machine's disk"
    )
    seed: int = Field(ge=0, description="seed of the search; that of the runs is trainer.seed")
    startup: int = Field(ge=1, description="first trials, drawn at random and not ended early")
    warmup: float = Field(ge=0, lt=1, description="share of a run before which it is not ended early")
    patience: float = Field(
        gt=0, le=1, description="pruner=patience: share of a run without improvement after which it ends"
    )
    retries: int = Field(ge=0, description="how often settings are run again after their worker died")
    keep: Literal["best", "all"] = Field(description="of which trials checkpoints are kept")
    horizon: HorizonConfig
    adviser: AdviserConfig
    test: Literal["none", "best"] = Field(
        description="best: the winner's test set is read, once, when the study is over; none: no test set is read"
    )

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.sampler != "grid" and self.trials is self.minutes is self.epochs is None:
            raise ValueError("tune.trials, tune.minutes and tune.epochs are all null: set one, or the study never ends")
        return self


class TuneConfig(TrainConfig):
    """The verb `tune`: every trial is a `train` of the same settings but for those of the space."""

    space: dict[str, SpaceEntry] = Field(
        description="settings and their values: space=NAME of conf/space; by itself that of the model's name"
    )
    tune: TuneSettings
    given: tuple[str, ...] = Field(description="the command line; filled in, not to be given")
    config_dir: str | None = Field(description="the folder of --config-dir; filled in, not to be given")

    @model_validator(mode="after")
    def _can_be_pruned(self) -> Self:
        if self.trainer.seeds > 1 and self.tune.pruner != "none":
            raise ValueError(
                f"tune.pruner={self.tune.pruner} ends single runs, and trainer.seeds={self.trainer.seeds} makes "
                "several of each; set pruner=none, or trainer.seeds=1"
            )
        return self
