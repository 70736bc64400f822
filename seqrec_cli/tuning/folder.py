"""A study's folder: what it is a study of, so that the same one goes on and another is refused."""

import contextlib
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock

from seqrec_cli.config.describe import value_in_words
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.quoting import literal, shell_override
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.tuning import TuneConfig
from seqrec_cli.config.validate import dump
from seqrec_cli.config.verbs import VERBS
from seqrec_cli.files import write_atomically
from seqrec_cli.reporting.run_folder import dated_folder
from seqrec_cli.tuning.records import TrialRecord
from seqrec_cli.tuning.space import Space

OF_A_STUDY = ("tune", "space", "run_dir", "given", "config_dir")  # keys that `train` does not have, or not of a trial
FREE = ("hardware", "data_dir", "run_dir", "resume", "start_from")  # may differ when a study goes on
IDENTITY, STUDY, LOCK = "identity", "study.json", ".study.lock"


def command_of(given: Sequence[str]) -> list[str]:
    """The overrides of a command line that are `train`'s too."""
    texts = VERBS["tune"].all_in_full(given)
    return [text for text in texts if re.split(r"[.=]", text.lstrip("+~"), maxsplit=1)[0] not in OF_A_STUDY]


@dataclass(frozen=True)
class StudyFolder:
    """The files of a study, and the command line by which this process works on it: another machine has its own paths.

    `begin` makes a new one, or returns to one of the same settings.
    """

    path: Path
    given: tuple[str, ...]
    config_dir: str | None

    @classmethod
    def begin(cls, cfg: TuneConfig, *, base: TrainConfig, space: Space, metric: str, fingerprint: str) -> Self:
        """Raises SeqrecError where the folder holds something else, or a study of other data, settings or space."""
        label = f"tune_{cfg.model.name}_{cfg.dataset.name}"
        path = Path(cfg.run_dir).expanduser() if cfg.run_dir else dated_folder(label)
        folder = cls(path, tuple(cfg.given), cfg.config_dir)
        identity = _identity(base, space, metric=metric, fingerprint=fingerprint)
        if path.exists() and not path.is_dir():
            raise SeqrecError(f"run_dir={path} is a file; name a folder that does not exist yet")
        path.mkdir(parents=True, exist_ok=True)
        with folder.alone():
            plain = {IDENTITY: identity, "given": list(cfg.given), "config_dir": cfg.config_dir}
            plain |= {"tune": dump(cfg.tune), "storage": cfg.tune.storage}
            if folder.study_json.is_file():
                folder._is_the_same(identity, cfg)
            elif any(entry.name != LOCK for entry in path.iterdir()):
                raise SeqrecError(f"run_dir={path} is not empty and holds no study; name another run_dir")
            write_atomically(folder.study_json, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
        return folder

    @classmethod
    def refuse_damaged(cls, run_dir: str | None) -> None:
        """Before data are prepared. Raises SeqrecError where a study's own description cannot be read."""
        folder = cls(Path(run_dir or ".").expanduser(), (), None)
        if run_dir is not None and folder.study_json.is_file():
            folder.read()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other process begins, or writes what the study leaves, meanwhile: two may end it at the same instant."""
        with FileLock(self.path / LOCK):
            yield

    @property
    def study_json(self) -> Path:
        return self.path / STUDY

    def read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.study_json.read_text(encoding="utf-8"))
            assert isinstance(found, dict)
            assert {IDENTITY, "given", "config_dir", "storage"} <= set(found)
            return found
        except (ValueError, AssertionError) as error:
            raise SeqrecError(
                f"{self.study_json} is damaged; the trials beside it are whole: put it back from a copy, or name "
                "another run_dir"
            ) from error

    def _is_the_same(self, identity: dict[str, Any], cfg: TuneConfig) -> None:
        before = self.read()
        if before["storage"] != cfg.tune.storage:
            raise SeqrecError(
                f"run_dir={self.path}: its trials are in storage={before['storage']}; give that, or another run_dir"
            )
        found, there = json.loads(json.dumps(identity)), before[IDENTITY]
        for name in cfg.dataset.places:  # a study of an older version has them written down
            there["settings"]["dataset"].pop(name, None)
        for part, words in (
            ("fingerprint", "data"),
            ("metric", "metric"),
            ("space", "space"),
            ("settings", "settings"),
        ):
            ours, theirs = found[part], there[part]
            if ours != theirs:
                where = _difference(theirs, ours)
                begun = StudyFolder(self.path, tuple(before["given"]), before["config_dir"])
                raise SeqrecError(
                    f"run_dir={self.path} is a study of other {words}{where}; name another run_dir, or go on with: "
                    f"{begun.command()}"
                )

    def command(self) -> str:
        """The command that goes on with it."""
        return _shell("tune", self.config_dir, [*_without(self.given, "run_dir"), _at(self.path)])

    def experiment_command(self, name: str) -> str:
        """The command that trains what is written in `experiment/NAME.yaml` of this folder."""
        given = [text for text in command_of(self.given) if text.startswith(("data_dir=", "hardware."))]
        path = str(self.path)
        if self.config_dir is None:
            return _shell("train", path, [f"experiment={name}", *given])
        search = f"hydra.searchpath=['file://{self.path.absolute()}']"
        return _shell("train", self.config_dir, [f"experiment={name}", *given, search])

    def train_command(self, record: TrialRecord) -> str:
        """The command that repeats a trial's run, on its own and with its test set read as usual."""
        given = _without(command_of(self.given), "evaluation.test")
        texts = [f"{key}={literal(key, value)}" for key, value in record.settings.items()]
        texts += [] if record.epochs is None else [f"trainer.max_epochs={record.epochs}"]
        return _shell("train", self.config_dir, [*given, *texts])


def _identity(base: TrainConfig, space: Space, *, metric: str, fingerprint: str) -> dict[str, Any]:
    settings = {key: value for key, value in dump(base).items() if key not in FREE}
    settings["evaluation"] = {key: value for key, value in settings["evaluation"].items() if key != "test"}
    places = base.dataset.places
    settings["dataset"] = {key: value for key, value in settings["dataset"].items() if key not in places}
    entries = {key: {n: v for n, v in dump(entry).items() if v is not None} for key, entry in space.entries.items()}
    return {"fingerprint": fingerprint, "metric": metric, "space": entries, "settings": settings}


def _difference(before: Any, now: Any, prefix: str = "") -> str:
    """The first thing in which two trees differ: ` (model.dropout: 0.1 there, 0.2 here)`."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            if before.get(key) != now.get(key):
                return _difference(before.get(key), now.get(key), f"{prefix}{key}.")
    where = prefix.rstrip(".")
    if not where:
        return ""
    said = [json.dumps(value) if isinstance(value, dict) else value_in_words(value) for value in (before, now)]
    return f" ({where}: {said[0]} there, {said[1]} here)"


def _without(texts: Sequence[str], key: str) -> list[str]:
    return [text for text in texts if text.partition("=")[0] != key]


def _at(path: Path) -> str:
    return shlex.split(shell_override("run_dir", path))[0]


def _shell(verb: str, config_dir: str | None, texts: Sequence[str]) -> str:
    flags = [] if config_dir is None else ["--config-dir", config_dir]
    return shlex.join(["seqrec", verb, *flags, *texts])
