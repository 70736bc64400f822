"""A run's folder: what lies where, and every write whole or not at all."""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.migrations import migrated
from seqrec_cli.config.quoting import shell_command, shell_override
from seqrec_cli.files import write_atomically
from seqrec_cli.reporting.stretches import STRETCHES, stretches_with, with_stretches

BRIEFLY = 0.5  # seconds: a process that only asks whether another trains holds the lock for an instant
MEMBERS = "members"  # of a portfolio: its candidates' own runs
OUTPUTS = Path("outputs")  # dated runs, under the working directory


def _plain(value: Any) -> Any:
    """NumPy scalars and paths as JSON knows them; anything else is refused."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def to_json(value: Any, what: str, indent: int | None = None) -> str:
    """Strict JSON: NaN and infinity, which JSON has no word for, are refused (SeqrecError) and never written."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False, default=_plain, ensure_ascii=False)
    except ValueError as error:
        raise SeqrecError(
            f"{what} holds a number that is not finite, so it was not written: check lr, precision and the data"
        ) from error


class RunFolder:
    """The files of one run. `allocate` makes a new one, `open` returns to one that exists."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_yaml = path / "config.yaml"  # the configuration
        self.manifest = path / "manifest.json"  # versions, data, hardware, times; also marks a folder as a run's
        self.metrics_jsonl = path / "metrics.jsonl"  # one row a validation
        self.metrics_json = path / "metrics.json"  # the final metrics
        self.best = path / "best.pt"
        self.last = path / "last.pt"
        self.curves_png = path / "curves.png"
        self.history_png = path / "history.png"  # of `evaluate history=[...]`
        self.tensorboard = path / "tensorboard"
        self.done = path / "DONE"
        self.lock = path / ".training.lock"  # held while a process trains; the file itself says nothing

    def reliability_png(self, split: str) -> Path:
        """The reliability plot of a split's click candidates."""
        return self.path / f"reliability_{split}.png"

    def ranks(self, split: str) -> Path:
        """The rank of every target of a split (`val` or `test`)."""
        return self.path / f"ranks_{split}.parquet"

    def clicks(self, split: str) -> Path:
        """The score of every click candidate of a split."""
        return self.path / f"clicks_{split}.parquet"

    @classmethod
    def allocate(cls, run_dir: str | None, label: str) -> Self:
        """A new folder: `run_dir`, or `outputs/<date>/<time>_<label>` (with a number if that is taken).

        Raises SeqrecError when `run_dir` holds a run or anything else; an empty folder is fine.
        """
        if run_dir is None:
            folder = cls(dated_folder(label))
        else:
            folder = cls(Path(run_dir).expanduser())
            folder._refuse_reuse()
            folder.path.mkdir(parents=True, exist_ok=True)
        try:
            with open(folder.manifest, "x", encoding="utf-8"):  # of two runs started at once, one gets it
                pass
            write_atomically(folder.manifest, "{}\n")
        except FileExistsError:
            raise SeqrecError(f"run_dir={folder.path} was just taken by another run; name another run_dir") from None
        return folder

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The folder of a run that was started before, finished or not."""
        folder = cls(Path(path).expanduser())
        if not folder.path.is_dir():
            raise SeqrecError(f"{folder.path} is no folder; name the folder of a run (the last line a run prints)")
        missing = [file.name for file in (folder.manifest, folder.config_yaml) if not file.is_file()]
        if missing:
            raise SeqrecError(f"{folder.path} holds no run (no {' and no '.join(missing)}); name a run's folder")
        return folder

    @classmethod
    def open_measured(cls, path: str | Path) -> Self:
        """The folder of a run, or of `seqrec evaluate`, that has its final metrics."""
        folder = cls(Path(path).expanduser())
        if not folder.metrics_json.is_file():
            cls.open(path)  # says what else is amiss
            raise SeqrecError(f"{folder.path} has no metrics.json: the run is not finished; resume it, or evaluate it")
        return folder

    def _refuse_reuse(self) -> None:
        path = self.path
        if not path.exists():
            return
        if not path.is_dir():
            raise SeqrecError(f"run_dir={path} is a file; name a folder that does not exist yet")
        if all(entry == self.lock for entry in path.iterdir()):
            return
        if self._is_training():
            raise SeqrecError(f"run_dir={path}: another process is training into it; name another run_dir")
        if self.is_done:
            raise SeqrecError(f"run_dir={path} holds a finished run; name another run_dir")
        if self.last.exists():
            raise SeqrecError(
                f"run_dir={path} holds an unfinished run; go on with {shell_override('resume', path)}, "
                "or name another run_dir"
            )
        if self.manifest.exists():
            raise SeqrecError(
                f"run_dir={path} holds a run without a checkpoint (just begun, or stopped early); "
                "delete the folder or name another run_dir"
            )
        raise SeqrecError(f"run_dir={path} is not empty and holds no run; name another run_dir")

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Nobody else trains into the folder meanwhile; reading it, and evaluating, need no leave.

        The operating system ends the lock of a process that was killed. Raises SeqrecError where another one has it.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.lock, timeout=BRIEFLY)
        try:
            lock.acquire()
        except Timeout:
            raise SeqrecError(f"another process is training into {self.path}; wait for it") from None
        try:
            yield
        finally:
            lock.release()

    def _is_training(self) -> bool:
        if not self.lock.exists():
            return False
        from filelock import FileLock, Timeout

        try:
            with FileLock(self.lock, timeout=0):
                return False
        except Timeout:
            return True

    @property
    def is_done(self) -> bool:
        return self.done.exists()

    def mark_done(self) -> None:
        """The last act of a run: everything else has been written."""
        write_atomically(self.done, datetime.now().astimezone().isoformat(timespec="seconds") + "\n")

    def write_config(self, config: dict[str, Any]) -> None:
        """The configuration, as YAML."""
        write_atomically(self.config_yaml, OmegaConf.to_yaml(OmegaConf.create(config)))

    def read_config(self) -> dict[str, Any]:
        """The configuration as it is now: `config.yaml`, and what was changed when the run was resumed."""
        first, stretches = self._read_first_config(), self.read_manifest().get(STRETCHES, [])
        return with_stretches(migrated(first), stretches) if stretches else first

    def _read_first_config(self) -> dict[str, Any]:
        try:
            plain = OmegaConf.to_container(OmegaConf.load(self.config_yaml))
        except (ValueError, OmegaConfBaseException, YAMLError):  # of bytes that are no text, too
            plain = None
        if not isinstance(plain, dict) or not plain:
            raise SeqrecError(
                f"{self.config_yaml} is damaged (it holds no settings); put it back from a copy. Checkpoints hold "
                "their own: evaluate, export and recommend take them as ckpt=FILE.pt"
            )
        return {str(key): value for key, value in plain.items()}

    def write_stretch(self, config: dict[str, Any], step: int) -> None:
        """A resumed run's settings, where they differ, beside those that have trained up to `step`."""
        before = self.read_manifest().get(STRETCHES, [])
        stretches = stretches_with(migrated(self._read_first_config()), before, config, step=step)
        if stretches != before:
            self.write_manifest({STRETCHES: stretches})

    def mend_metrics(self) -> str | None:
        """Drop a last row of `metrics.jsonl` that was cut while it was written; a line that says so."""
        lines = self.metrics_jsonl.read_bytes().splitlines() if self.metrics_jsonl.is_file() else []
        if not lines or _row(lines[-1]) is not None:
            return None
        rows = [_row(line) for line in lines[:-1] if line]
        if None in rows:
            read_rows(self.metrics_jsonl)  # refuses
        write_atomically(self.metrics_jsonl, _lines([row for row in rows if row], self.metrics_jsonl.name))
        return f"{self.metrics_jsonl}: the last row was cut, and is left out; {len(rows)} are whole"

    def write_manifest(self, facts: dict[str, Any]) -> None:
        """Add facts to the manifest; a key given again replaces the old one."""
        merged = self.read_manifest() | facts
        write_atomically(self.manifest, to_json(merged, self.manifest.name, indent=2) + "\n")

    def read_manifest(self) -> dict[str, Any]:
        if not self.manifest.exists():
            return {}
        return _read_object(self.manifest, "put it back from a copy, or write {} into it and evaluate the run again")

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add a validation's row. A resumed run that comes past a `step` again replaces that row and later ones.

        Of one step `val` stands before `val_swa`, the average's.
        """
        position = (row["step"], row["split"])
        kept = [old for old in read_rows(self.metrics_jsonl) if (old["step"], old["split"]) < position]
        write_atomically(self.metrics_jsonl, _lines([*kept, row], self.metrics_jsonl.name))

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """The final metrics: `{"val": {...}, "test": {...}, ...}`; no `test` while that is sealed."""
        write_atomically(self.metrics_json, to_json(metrics, self.metrics_json.name, indent=2) + "\n")

    @property
    def again(self) -> str:
        """How to get metrics that were lost."""
        return f"evaluate the run again: {shell_command('evaluate', 'ckpt', self.path)} run_dir=NEW_FOLDER"

    def read_metrics(self) -> dict[str, Any]:
        return _read_object(self.metrics_json, self.again)


def read_rows(metrics_jsonl: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`, oldest first; none when the file is not there."""
    if not metrics_jsonl.exists():
        return []
    found = []
    for number, line in enumerate(metrics_jsonl.read_bytes().splitlines(), 1):
        if line:
            row = _row(line)
            if row is None:
                raise SeqrecError(
                    f"{metrics_jsonl} is damaged (line {number} is no row of a validation); delete that line: curves "
                    "are drawn from the others"
                )
            found.append(row)
    return found


def _row(line: bytes) -> dict[str, Any] | None:
    """A validation's row; None where the line is none, or a part of one."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and row.keys() >= {"step", "split"} else None


def _read_object(path: Path, mend: str) -> dict[str, Any]:
    """What a JSON file of names and values holds. Raises SeqrecError where it is torn, or is something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # JSON's errors, and bytes that are no text
        found = None
    if not isinstance(found, dict):
        raise SeqrecError(f"{path} is damaged (it cannot be read as JSON); {mend}")
    return found


def _lines(rows: Iterable[dict[str, Any]], what: str) -> str:
    return "".join(to_json(row, what) + "\n" for row in rows)


def dated_folder(label: str) -> Path:
    """A new folder `outputs/<date>/<time>_<label>`, with a number if that is taken."""
    now = datetime.now()
    day = OUTPUTS / now.strftime("%Y-%m-%d")
    day.mkdir(parents=True, exist_ok=True)
    stem = f"{now:%H-%M-%S}_" + re.sub(r"[^\w.+-]+", "-", label)
    number = 1
    while True:
        path = day / (stem if number == 1 else f"{stem}_{number}")
        try:
            path.mkdir()  # fails where another run has it: no two runs share a folder
        except FileExistsError:
            number += 1
        else:
            return path
