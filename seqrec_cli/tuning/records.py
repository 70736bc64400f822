"""What a study knows of its trials, as proposers, pruners and reports read it."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

State = Literal["running", "complete", "pruned", "failed"]


@dataclass(frozen=True)
class Validation:
    """One validation inside a trial's run."""

    epoch: int
    step: int
    value: float  # of the study's metric
    val_loss: float | None  # where it was measured


@dataclass(frozen=True)
class TrialRecord:
    """A trial as it stands."""

    number: int
    settings: dict[str, Any]  # by dotted key: {"model.dropout": 0.3}; of a conditional entry only where it applies
    state: State
    curve: tuple[Validation, ...]
    best: Validation | None
    followed: int  # epochs the run was allowed; a peak at the last of them may still be rising
    seconds: float
    proposed_by: str  # "tpe", "adviser", ...
    rationale: str  # an adviser's reason; empty for others
    run_dir: str | None
    error: str | None
    continues: int | None = None  # the number of an earlier trial whose settings are followed further
    epochs: int | None = None  # what it was allowed where that is not its configuration's own
    value: float | None = None  # of a complete trial: the study's metric, of the weights that its run has kept


@dataclass(frozen=True)
class Proposal:
    """What to try next."""

    settings: dict[str, Any]
    epochs: int | None = None  # None: the study's own horizon
    continues: int | None = None
    rationale: str = ""


class Horizon(Protocol):
    """How far new settings are followed at first, by what trials have shown. None: as configured."""

    def epochs(self, trials: list[TrialRecord]) -> int | None: ...


class Proposer(Protocol):
    """Someone who names settings beside Optuna's samplers. None: has nothing (valid) to say, and why was said."""

    name: str

    def propose(self, trials: list[TrialRecord]) -> Proposal | None: ...
