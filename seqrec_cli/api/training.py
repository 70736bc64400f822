"""`train` in Python: settings as overrides, as a mapping or as a whole configuration; a trained run comes back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrec_cli.api.datasets import Dataset
from seqrec_cli.api.overrides import as_overrides
from seqrec_cli.api.process_state import printing, unchanged_torch
from seqrec_cli.commands.dispatch import record_of, run_record
from seqrec_cli.config.compose import compose, unchanged_hydra
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.migrations import renamed
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.validate import dump, validate_plain

if TYPE_CHECKING:
    from seqrec_cli.api.trained import Trained


def train(
    settings: Sequence[str] | Mapping[str, Any] | TrainConfig | None = None,
    *,
    dataset: Dataset | str | None = None,
    run_dir: str | Path | None = None,
    verbose: bool = True,
) -> "Trained":
    """Train, choose on validation, measure once on test: what `seqrec train` does, with the same run folder.

    `settings` are overrides as on the command line (`["model=bst", "trainer.lr=5e-4"]`), the same as a mapping
    (`{"model": "bst", "trainer.lr": 5e-4}`, nested or dotted), or a whole configuration (`load(...).config`, changed
    where you like). `dataset` is what `dataset(frame)` made, or the name of one in `conf/dataset`. With
    `trainer.seeds=3` the best of the seeds comes back (see `load`). `verbose=False` prints nothing.

    Hydra's and torch's global settings are afterwards as before. An interrupt (Ctrl-C, a notebook's stop) saves the run
    and raises KeyboardInterrupt with the setting to go on with. Raises SeqrecError, in one line, for a wrong setting.

    Examples:
        >>> run = seqrec_cli.train(
        ...     ["dataset.users=60", "dataset.items=40", "trainer.max_epochs=1"], dataset="synthetic", verbose=False
        ... )
        >>> sorted(run.metrics)
        ['baselines', 'intervals', 'parts', 'protocol', 'test', 'test_opened', 'val']
    """
    with unchanged_hydra():
        record = _record(settings, dataset, None if run_dir is None else str(run_dir))
    with unchanged_torch(), printing(verbose):
        result = run_record("train", record)
    if result.get("interrupted"):
        again = as_overrides({"resume": result["run_dir"]})
        raise KeyboardInterrupt(f"the run is saved; go on with: seqrec_cli.train({again})")
    from seqrec_cli.api.loading import load

    return load(result["run_dir"])


def _record(settings: Any, dataset: Dataset | str | None, run_dir: str | None) -> Settings:
    if isinstance(settings, TrainConfig):
        settings = dump(settings)
    if not is_whole(settings):
        overrides = overrides_of(settings, dataset, run_dir)
        return record_of("train", compose("train", overrides), overrides)
    _is_dataset(dataset)
    if isinstance(dataset, str):
        raise SeqrecError(f"dataset={dataset}: a whole configuration has its dataset; change it there")
    data = {} if dataset is None else {"dataset": dataset.settings, "protocol": dataset.protocol}
    folders = {} if run_dir is None else {"run_dir": run_dir}
    folders |= {} if dataset is None else {"data_dir": dataset.data_dir}
    return validate_plain("train", renamed({**settings, **data, **folders}))


def is_whole(settings: Any) -> bool:
    """Whether it is a configuration with all its settings, such as that of a run."""
    return isinstance(settings, Mapping) and set(TrainConfig.model_fields) <= settings.keys()


def overrides_of(settings: Any, dataset: Dataset | str | None, run_dir: str | None) -> list[str]:
    """The command line that says the same. Raises SeqrecError, in one line, for what says nothing."""
    _is_dataset(dataset)
    overrides = _listed(settings)
    if dataset is not None and any(text.startswith("dataset=") for text in overrides):
        raise SeqrecError("dataset is given twice, in the settings and as an argument; leave one out")
    given = [f"dataset={dataset}"] if isinstance(dataset, str) else []
    if isinstance(dataset, Dataset):
        given = ["dataset=csv", *as_overrides({"dataset": dataset.settings, "data_dir": dataset.data_dir})]
        if not any(text.startswith("protocol=") for text in overrides):  # else the settings choose it
            given += as_overrides({"protocol": dataset.protocol})
    return [*given, *overrides, *as_overrides({} if run_dir is None else {"run_dir": run_dir})]


def _is_dataset(dataset: Any) -> None:
    if not isinstance(dataset, Dataset | str | None):
        raise SeqrecError(
            f"dataset: a {type(dataset).__name__} is none yet; make one of a frame: seqrec_cli.dataset(frame, user=...)"
        )


def _listed(settings: Any) -> list[str]:
    if settings is None:
        return []
    if isinstance(settings, Mapping):
        return as_overrides(settings)
    if isinstance(settings, str) or not isinstance(settings, Sequence):
        raise SeqrecError(f"settings: give a list of overrides (['model=bst']) or a mapping, not {settings!r}")
    for text in settings:
        if not isinstance(text, str):
            raise SeqrecError(f"settings: {text!r} is no override; give text such as 'trainer.lr=0.001'")
    return list(settings)
