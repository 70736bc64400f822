"""A study in its folder: trials that are begun, watched and ended, by one process or by several.

Optuna keeps the trials; who works on one holds a lock of the operating system, which ends with its process: a trial
that runs and whose lock is free has lost its worker. Its settings are run again, and it is not counted.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.tuning import TuneSettings
from seqrec_cli.reporting.run_folder import read_rows
from seqrec_cli.tuning.engine import PARTS, make_sampler, need_optuna, open_study, should_prune, trial_seed
from seqrec_cli.tuning.grid import Grid
from seqrec_cli.tuning.optuna_trials import epochs_of, trial_record
from seqrec_cli.tuning.records import Horizon, Proposal, Proposer, TrialRecord
from seqrec_cli.tuning.space import Space

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial

TRIALS = "trials"  # the folder of their runs
GIVE_UP = 5  # failed trials, and none that went well, after which a study ends: something else is wrong
LOST, INTERRUPTED = "its worker died", "interrupted"
WAIT = 1_800.0  # seconds for another worker to name its next settings: an adviser thinks


@dataclass(frozen=True)
class Outcome:
    """How a trial's run went. `value` is of the study's metric, of the weights that the run has kept."""

    state: Literal["complete", "pruned", "interrupted"]
    value: float | None = None
    followed: int | None = None  # epochs that the run was allowed, where its configuration said so


@dataclass
class Claim:
    """A trial that this process works on, until `Study.finish` or `Study.fail`."""

    trial: "Trial"
    settings: dict[str, Any]
    epochs: int | None  # None: as many as the configuration says
    folder: Path  # of its run, not there yet
    lock: FileLock
    again: Path | None  # the run folder of a trial with the same settings that was not run to its end
    prunes: bool
    until: float  # by `time.monotonic`, when the study's minutes are over
    began: float = field(default_factory=time.monotonic)
    reported: int = -1  # the last of `PARTS` that a pruner knows
    latest: tuple[float, float] | None = None  # the last validation: progress and value

    @property
    def number(self) -> int:
        return self.trial.number

    def watch(self, value: float, progress: float) -> bool:
        """Tell a validation, `progress` (0 to 1) of the run's steps done; True where the run is not worth more steps.

        Parts of the run between two validations have values on the line between them.
        """
        part = min(int(progress * PARTS + 1e-9), PARTS)
        for step in range(self.reported + 1, part + 1) if self.prunes else ():
            at, before = self.latest or (0.0, value)
            passed = (step / PARTS - at) / (progress - at) if progress > at else 1.0
            self.trial.report(before + (value - before) * min(passed, 1.0), step)
        self.latest = progress, value
        self.reported = max(self.reported, part)
        if progress >= 1:
            return False
        return time.monotonic() >= self.until or (self.prunes and should_prune(self.trial, self.epochs))


class Study:
    """The trials of one folder. `proposers` are asked in turn before Optuna's sampler is."""

    def __init__(
        self,
        folder: Path,
        space: Space,
        tune: TuneSettings,
        *,
        metric: str,
        maximise: bool,
        proposers: Sequence[Proposer] = (),
        horizon: Horizon | None = None,
    ) -> None:
        need_optuna(tune.sampler)
        self.folder, self.space, self.tune = folder, space, tune
        self.metric, self.maximise = metric, maximise
        self.proposers = [*proposers, *([Grid(space)] if tune.sampler == "grid" else [])]
        self.horizon = horizon
        self._ended: dict[int, list[dict[str, Any]]] = {}  # validations of trials that are over: read once
        (folder / "locks").mkdir(parents=True, exist_ok=True)
        with self._alone():
            self.optuna = open_study(folder, tune, maximise)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other worker asks, or looks for the dead, meanwhile."""
        lock = FileLock(self.folder / "locks" / "study.lock", timeout=WAIT)
        try:
            lock.acquire()
        except Timeout:
            raise SeqrecError(f"{self.folder}: a worker has held the study for {WAIT:.0f} s; is it stopped?") from None
        try:
            yield
        finally:
            lock.release()

    def claim(self) -> Claim | None:
        """The next trial; None where the budget is spent, or is by the trials that are running."""
        from optuna.trial import TrialState

        with self._alone():
            self._find_lost()
            trials = self._all()
            waiting = any(trial.state == TrialState.WAITING for trial in trials)
            if self.is_over() or (not waiting and (self.has_all() or not self._propose())):
                return None
            self.optuna.sampler = make_sampler(self.tune, seed=trial_seed(self.tune.seed, len(trials)))
            trial = self.optuna.ask()
            lock = FileLock(self._lock_of(trial.number), timeout=0)
            lock.acquire()
            attributes = trial.user_attrs
            settings = self.space.draw(trial)
            trial.set_user_attr("settings", settings)
            if "by" not in attributes:
                trial.set_user_attr("by", self.tune.sampler if self.tune.sampler != "adviser" else "tpe")
            epochs = attributes.get("epochs")
            if epochs is None and self.horizon is not None and "again" not in attributes:
                epochs = self.horizon.epochs(self.records())
                trial.set_user_attr("epochs", epochs)
            left = None if self.tune.minutes is None else 60 * self.tune.minutes - self.seconds()
            until = float("inf") if left is None else time.monotonic() + left
            again = None if "again" not in attributes else self.run_of(attributes["again"])
            # What is followed further was chosen already; where it ends is what short runs are compared with.
            prunes = self.tune.pruner != "none" and attributes.get("continues") is None
            folder = self.run_of(trial.number)
            return Claim(trial, settings, epochs, folder=folder, lock=lock, again=again, until=until, prunes=prunes)

    def _propose(self) -> bool:
        """Put the first proposal there is before Optuna's own; False where the study has nothing more to try."""
        if not self.proposers:
            return True
        trials = self.records()
        for proposer in self.proposers:
            proposal = proposer.propose(trials)
            if proposal is not None:
                self._enqueue(proposal, proposer.name)
                return True
            if isinstance(proposer, Grid):
                return False
        return True

    def _enqueue(self, proposal: Proposal, by: str) -> None:
        wrong = self.space.problems(proposal.settings)
        if wrong:  # a proposer checks what it says; this is its fault
            raise ValueError(f"{by} proposes what is not in the space: {wrong[0]}")
        told = {"by": by, "rationale": proposal.rationale, "epochs": proposal.epochs, "continues": proposal.continues}
        self.optuna.enqueue_trial(self.space.as_drawn(proposal.settings), user_attrs=told)

    def finish(self, claim: Claim, outcome: Outcome) -> None:
        """Write down how a trial ended; what was interrupted will be run again."""
        from optuna.trial import TrialState

        self._took(claim, outcome.followed)
        if outcome.state == "interrupted":
            with self._alone():
                self._again(claim.number, INTERRUPTED, deaths=claim.trial.user_attrs.get("deaths", 0))
        elif outcome.state == "pruned":
            self.optuna.tell(claim.number, state=TrialState.PRUNED)
        else:
            assert outcome.value is not None
            if claim.prunes:  # a run that stopped by itself stays as good as it is
                for step in range(claim.reported + 1, PARTS + 1):
                    claim.trial.report(outcome.value, step)
            self.optuna.tell(claim.number, outcome.value)
        claim.lock.release()

    def fail(self, claim: Claim, reason: str) -> None:
        """Write down that a trial's run was refused or broke."""
        from optuna.trial import TrialState

        self._took(claim, None)
        claim.trial.set_user_attr("error", reason)
        self.optuna.tell(claim.number, state=TrialState.FAIL)
        claim.lock.release()

    def _took(self, claim: Claim, followed: int | None) -> None:
        seconds = round(time.monotonic() - claim.began, 6)
        claim.trial.set_user_attr("ran", {"seconds": seconds, "followed": followed})

    def _find_lost(self) -> None:
        """Trials whose worker died: they end as failed, and their settings wait to be run again."""
        from optuna.trial import TrialState

        for trial in self._all():
            if trial.state != TrialState.RUNNING:
                continue
            lock = FileLock(self._lock_of(trial.number), timeout=0)
            try:
                lock.acquire()
            except Timeout:
                continue
            try:
                if self.optuna.trials[trial.number].state == TrialState.RUNNING:  # not ended between the two looks
                    self._again(trial.number, LOST, deaths=trial.user_attrs.get("deaths", 0) + 1)
            finally:
                lock.release()

    def _again(self, number: int, why: str, *, deaths: int) -> None:
        """End a trial that was not run to its end, and let another have its settings.

        The other is put in the queue first: between the two a kill leaves a trial too many, which `claim` would find.
        """
        from optuna.trial import TrialState

        trial = self.optuna.trials[number]
        storage, trial_id = self.optuna._storage, trial._trial_id
        storage.set_trial_user_attr(trial_id, "error", why)
        known = trial.params if "settings" in trial.user_attrs else trial.system_attrs.get("fixed_params")
        if deaths > self.tune.retries:
            storage.set_trial_user_attr(trial_id, "error", f"{why} {deaths} times with these settings")
        elif not any(other.user_attrs.get("again") == number for other in self._all()):
            storage.set_trial_user_attr(trial_id, "replaced", True)
            if known:
                kept = {key: trial.user_attrs.get(key) for key in ("by", "rationale", "epochs", "continues")}
                told = {key: value for key, value in kept.items() if value is not None}
                self.optuna.enqueue_trial(known, user_attrs={**told, "again": number, "deaths": deaths})
        self.optuna.tell(number, state=TrialState.FAIL)

    def run_of(self, number: int) -> Path:
        """The folder of a trial's run."""
        return self.folder / TRIALS / f"{number:04d}"

    def _lock_of(self, number: int) -> Path:
        return self.folder / "locks" / f"{number:04d}.lock"

    def _all(self) -> "list[FrozenTrial]":
        return self.optuna.get_trials(deepcopy=False)

    def counted(self) -> "list[FrozenTrial]":
        """The trials of the study, without those whose settings were run again, or wait to be run."""
        from optuna.trial import TrialState

        return [
            trial for trial in self._all() if trial.state != TrialState.WAITING and not trial.user_attrs.get("replaced")
        ]

    def begun(self) -> int:
        """Trials that were ever begun, those that were run again twice."""
        from optuna.trial import TrialState

        return sum(trial.state != TrialState.WAITING for trial in self._all())

    def has_all(self) -> bool:
        """Whether all its trials are begun."""
        return self.tune.trials is not None and len(self.counted()) >= self.tune.trials

    def is_over(self) -> bool:
        """Whether its minutes or epochs are used up."""
        tune = self.tune
        if tune.minutes is not None and self.seconds() >= 60 * tune.minutes:
            return True
        followed = sum(epochs_of(self._rows(trial)) for trial in self.counted()) if tune.epochs else 0
        return tune.epochs is not None and followed >= tune.epochs

    def is_running(self) -> bool:
        """Whether trials are under way, here or elsewhere, or wait to be run again."""
        from optuna.trial import TrialState

        with self._alone():
            self._find_lost()
        states = {trial.state for trial in self._all()}
        return TrialState.RUNNING in states or (TrialState.WAITING in states and not self.is_over())

    def seconds(self) -> float:
        """How long at least one trial was running: what several workers do at once counts once."""
        now = time.time()
        spans = []
        for trial in self._all():
            if trial.datetime_start is not None:
                start = trial.datetime_start.timestamp()
                took = trial.user_attrs.get("ran", {}).get("seconds")
                if took is None and trial.user_attrs.get("replaced"):  # nobody knows when its worker died
                    rows = self._rows(trial)
                    took = rows[-1]["seconds"] if rows else 0.0
                spans.append((start, now if took is None else start + took))
        spans.sort()
        total, end = 0.0, 0.0
        for start, stop in spans:
            total += max(stop - max(start, end), 0.0)
            end = max(end, stop)
        return total

    def records(self) -> list[TrialRecord]:
        """The trials by number, with their curves."""
        return [
            trial_record(
                trial,
                self._rows(trial),
                self.run_of(trial.number),
                metric=self.metric,
                maximise=self.maximise,
            )
            for trial in self.counted()
        ]

    def _rows(self, trial: "FrozenTrial") -> list[dict[str, Any]]:
        if trial.number in self._ended:
            return self._ended[trial.number]
        rows = read_rows(self.run_of(trial.number) / "metrics.jsonl")
        if trial.state.is_finished():
            self._ended[trial.number] = rows
        return rows

    def best(self) -> TrialRecord | None:
        """The complete trial with the best value; of equal ones the first."""
        complete = [record for record in self.records() if record.state == "complete" and record.value is not None]
        sign = 1 if self.maximise else -1
        return max(complete, key=lambda record: sign * (record.value or 0.0), default=None)


RunTrial = Callable[[Claim], Outcome]
