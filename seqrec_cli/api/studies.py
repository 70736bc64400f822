"""`tune` in Python: a study of many runs, whose trials come back as a frame."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from seqrec_cli.api.datasets import Dataset
from seqrec_cli.api.process_state import printing, unchanged_torch
from seqrec_cli.api.training import is_whole, overrides_of
from seqrec_cli.commands.dispatch import record_of, run_record
from seqrec_cli.config.compose import compose, unchanged_hydra
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.settings import Settings
from seqrec_cli.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

    from seqrec_cli.api.trained import Trained

GIVEN, FOLDER, DIGITS = "given", "spaces", 12  # the option and folder of a space that came as a mapping
WHOLE = ("epoch", "epochs", "followed")  # numbers, or missing


@dataclass(frozen=True)
class Study:
    """What a study found: the best trial by validation, and all of them."""

    folder: Path
    run_dir: Path  # of the best trial
    settings: dict[str, Any]  # of the best trial, those of the space
    metrics: dict[str, Any] = field(repr=False)  # of the best trial; with `test` only where `test=best` asked for it
    trials: "pd.DataFrame" = field(repr=False)

    def load(self) -> "Trained":
        """The best trial's run."""
        from seqrec_cli.api.loading import load

        return load(self.run_dir)


def tune(
    settings: Sequence[str] | Mapping[str, Any] | None = None,
    *,
    space: str | Mapping[str, Any] | None = None,
    dataset: Dataset | str | None = None,
    run_dir: str | Path | None = None,
    verbose: bool = True,
) -> Study:
    """Search a space of settings by validation: what `seqrec tune` does, with the same folder.

    `settings` are overrides as on the command line (`["model=bst", "trials=20", "workers=2"]`) or the same as a
    mapping. `space` is the name of one in `conf/space`, or entries as in such a file: `{"trainer.lr": {"type": "float",
    "low": 1e-3, "high": 1e-2, "log": True}}`. The same call with the study's folder as `run_dir` goes on with it. No
    test set is read but with `test=best`, that of the best trial.

    `Study.trials` has a row a trial, in the columns of `trials.csv`: how it ended, the metric, the epoch of its best
    validation and how many it had, its validation loss at the end and how far (a share) that rose above its lowest,
    seconds, who named its settings, the settings, and why it failed.

    An interrupt (Ctrl-C, a notebook's stop) saves the study and raises KeyboardInterrupt with its folder. Raises
    SeqrecError, in one line, for a wrong setting, and where no trial was run to its end.

    Examples:
        >>> found = seqrec_cli.tune(
        ...     ["dataset.users=60", "dataset.items=40", "trainer.max_epochs=1", "trials=2"],
        ...     space={"model.embed_dim": {"type": "choice", "values": [8, 16]}},
        ...     verbose=False,
        ... )
        >>> found.trials[["trial", "state"]].values.tolist()
        [[0, 'complete'], [1, 'complete']]
    """
    import pandas as pd

    with unchanged_hydra():
        record = _record(settings, space, dataset=dataset, run_dir=None if run_dir is None else str(run_dir))
    with unchanged_torch(), printing(verbose):
        result = run_record("tune", record)
    if result.get("interrupted"):
        raise KeyboardInterrupt(f"the study is saved; the same call with run_dir={result['run_dir']!r} goes on with it")
    found = {key: Path(result.pop(name)) for key, name in (("folder", "study"), ("run_dir", "run_dir"))}
    trials = pd.DataFrame(result.pop("table")).astype(dict.fromkeys(WHOLE, "Int64"))
    best = result.pop("settings")
    metrics = {key: value for key, value in result.items() if key not in ("trials", "failed")}
    return Study(**found, settings=best, metrics=metrics, trials=trials)


def _record(settings: Any, space: Any, *, dataset: Dataset | str | None, run_dir: str | None) -> Settings:
    if is_whole(settings):
        raise SeqrecError("settings: tune takes overrides; of a whole configuration give those that differ from conf/")
    overrides = overrides_of(settings, dataset, run_dir)
    if space is not None and any(text.startswith("space=") for text in overrides):
        raise SeqrecError("space is given twice, in the settings and as an argument; leave one out")
    config_dir = None
    if isinstance(space, Mapping):
        config_dir = str(_written(space, Path(str(OmegaConf.select(compose("tune", overrides), "data_dir")))))
    elif not isinstance(space, str | None):
        raise SeqrecError(f"space: a {type(space).__name__} is none; give the name of one, or a mapping of its entries")
    overrides += [] if space is None else [f"space={space if isinstance(space, str) else GIVEN}"]
    return record_of("tune", compose("tune", overrides, config_dir), overrides, config_dir=config_dir)


def _written(space: Mapping[str, Any], data_dir: Path) -> Path:
    """A folder for --config-dir that has the space, so that workers and the command line find it too."""
    if not space:
        raise SeqrecError("space: the mapping has no entries; leave it out for the space of the model's name")
    try:
        text = json.dumps(dict(space), indent=1, default=_plain)  # JSON is YAML
    except TypeError as error:
        raise SeqrecError(f"space: {error}; give numbers, texts and lists") from None
    folder = data_dir.expanduser().absolute() / FOLDER / hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
    path = folder / "space" / f"{GIVEN}.yaml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text + "\n")
    except OSError as error:
        raise SeqrecError(f"cannot write to {folder}: {error.strerror or error}; see data_dir") from None
    return folder


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # of NumPy
        return value.tolist()
    if isinstance(value, range):
        return list(value)
    raise TypeError(f"{value!r} is no value of a setting")
