"""What is Optuna's: samplers, pruners and the storage of a study. It is imported when a study is opened."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.tuning import TuneSettings

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, Trial

PARTS = 20  # of a run: a pruner compares trials at these points of their schedules, whatever their numbers of epochs
NAME = "seqrec"
FILES = {"journal": "journal.log", "sqlite": "study.db"}


def need_optuna(sampler: str) -> None:
    """Raises SeqrecError where the extra is not installed."""
    try:
        import optuna

        if sampler == "cmaes":
            import cmaes  # type: ignore[import-untyped]  # noqa: F401
    except ImportError as error:
        raise SeqrecError(f"seqrec tune needs {error.name}: pip install 'seqrec[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # of groups, and of patience


def trial_seed(seed: int, trials: int) -> int:
    """A sampler's seed for the trial after so many. Seeds in arithmetic progression would give first draws alike."""
    return int(np.random.SeedSequence((seed, trials)).generate_state(1)[0])


def make_sampler(tune: TuneSettings, seed: int) -> "BaseSampler":
    """Of `sampler`; where that proposes beside Optuna (grid, adviser), what stands in for it.

    A sampler is made anew for every trial: what it knows is in the storage, and workers are to draw different numbers.
    """
    from optuna import samplers

    if tune.sampler in ("random", "grid"):
        return samplers.RandomSampler(seed=seed)
    if tune.sampler == "cmaes":
        first = samplers.RandomSampler(seed=seed)  # also of choices, which CMA-ES has no gradient of
        return samplers.CmaEsSampler(
            seed=seed, n_startup_trials=tune.startup, independent_sampler=first, warn_independent_sampling=False
        )
    # Settings of one run belong together (rate and batch size), and conditional ones apart: multivariate, in groups.
    return samplers.TPESampler(seed=seed, n_startup_trials=tune.startup, multivariate=True, group=True)


def make_pruner(tune: TuneSettings) -> "BasePruner":
    """Its steps are twentieths of a run (`PARTS`)."""
    from optuna import pruners

    if tune.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=tune.startup, n_warmup_steps=round(tune.warmup * PARTS))
    if tune.pruner == "hyperband":
        least = max(round(tune.warmup * PARTS), 1)
        return pruners.HyperbandPruner(min_resource=least, max_resource=PARTS)
    if tune.pruner == "patience":
        return pruners.PatientPruner(None, patience=max(round(tune.patience * PARTS), 1))
    return pruners.NopPruner()


class SameLength:
    """A study as a pruner sees it: with those trials alone that are followed for as many epochs as one of them."""

    def __init__(self, study: "Study", epochs: int | None) -> None:
        self._study, self._epochs = study, epochs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(self, deepcopy: bool = True, states: Any = None) -> "list[FrozenTrial]":
        trials = self._study.get_trials(deepcopy=deepcopy, states=states)
        return [trial for trial in trials if trial.user_attrs.get("epochs") == self._epochs]


def should_prune(trial: "Trial", epochs: int | None) -> bool:
    """Whether the study's pruner would end a trial, by trials of the same length."""
    study = trial.study
    found = SameLength(study, epochs)
    return study.pruner.prune(found, study._storage.get_trial(trial._trial_id))  # type: ignore[arg-type]


def open_storage(folder: Path, kind: str) -> "BaseStorage":
    """The file of a study's trials; made where there is none."""
    from optuna import storages
    from optuna.storages import journal

    from seqrec_cli.tuning.journal import JournalLock

    path = folder / FILES[kind]
    if kind == "sqlite":
        return storages.RDBStorage(f"sqlite:///{path.resolve()}", engine_kwargs={"connect_args": {"timeout": 60}})
    return storages.JournalStorage(journal.JournalFileBackend(str(path), lock_obj=JournalLock(path)))


def open_study(folder: Path, tune: TuneSettings, maximise: bool) -> "Study":
    """The study of a folder, begun or gone on with. Raises SeqrecError where the file of its trials is damaged, or is
    gone while their runs are there: a new one would count from 0 again, over them."""
    import optuna
    from sqlalchemy.exc import DatabaseError

    path, remedy = folder / FILES[tune.storage], "put it back from a copy, or name another run_dir"
    runs = sorted(entry.name for entry in (folder / "trials").glob("*") if entry.is_dir())
    if runs and not (path.is_file() and path.stat().st_size):
        state = "is empty" if path.is_file() else "is not there"
        raise SeqrecError(f"{path} {state}, but the runs of {len(runs)} of its trials are ({runs[0]}, ...); {remedy}")
    try:
        return optuna.create_study(
            storage=open_storage(folder, tune.storage),
            study_name=NAME,
            direction="maximize" if maximise else "minimize",
            pruner=make_pruner(tune),
            load_if_exists=True,
        )
    except (ValueError, KeyError, DatabaseError) as error:
        raise SeqrecError(f"{path} is damaged; the runs in {folder / 'trials'} are whole: {remedy}") from error
