"""Checkpoints: written atomically, read back as plain data (`weights_only=True` runs no code from the file)."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.quoting import shell_command, shell_override
from seqrec_cli.faults import in_words
from seqrec_cli.files import atomic_file
from seqrec_cli.machine import GIB, memory_left

FORMAT = 1  # raise when the keys below change their meaning
SHARDED = 2  # the same with tensors of rows in a folder beside the file (`sharded_checkpoint.py`)
BEST, LAST = "best.pt", "last.pt"
RENAMED = {  # parts of parameters' names, as earlier versions wrote them
    "places": "positions",
    "by_distance": "position_bias",
    "by_time": "time_bias",
    "of_place": "position_bias",
    "of_session": "session_bias",
    "of_unit": "unit_bias",
}
KEYS = frozenset(
    {
        "format",
        "config",  # the configuration as plain values
        "facts",  # Catalog.facts(): enough to build the model again
        "fingerprint",  # of the data
        "epoch",  # passes finished; in best.pt, the pass it was taken in
        "step",
        "model",  # state_dict
        "metrics",  # validation metrics of that moment
        "trainer",  # optimizer and the rest that `resume` needs, or None
    }
)


def save_checkpoint(path: Path, payload: dict[str, Any], *, version: int = FORMAT) -> None:
    """Write `payload` (KEYS; `format` is filled in) so that `path` holds either the old file or the whole new one."""
    payload = {**payload, "format": version}
    if payload.keys() != KEYS:
        raise ValueError(f"a checkpoint has the keys {sorted(KEYS)}, got {sorted(payload)}")
    try:
        with atomic_file(path) as temporary, remembering(temporary) as file:
            torch.save(payload, file)
    except OSError as error:
        again = shell_command("train", "resume", path.parent)
        earlier = f"; what was saved before is whole: {again}" if path.is_file() else ""
        raise SeqrecError(f"{in_words(error, path) or f'{path}: {error}'}{earlier}") from error


class _Remembering(io.FileIO):
    """A file that keeps the error of a write."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            view, done = memoryview(data).cast("B"), 0
            while done < len(view):  # a single call may write less, where a disk is nearly full
                done += super().write(view[done:]) or 0
            return done
        except OSError as error:
            self.error = error
            raise


@contextlib.contextmanager
def remembering(path: Path) -> Iterator[IO[bytes]]:
    """A new file for torch's writers, which tell of an error of their own where a write fails: the disk's is raised."""
    with _Remembering(path, "wb") as file:
        try:
            yield file
        except RuntimeError:
            if file.error is None:
                raise
            raise file.error from None


def load_checkpoint(path: Path | str, *, whole: bool = True, setting: str = "ckpt") -> dict[str, Any]:
    """The payload of a checkpoint file, or of the best checkpoint of a run folder; tensors on the CPU.

    Without `whole`, tensors of rows that stand in shards are left there (`sharded_checkpoint.Rows`), and others are
    read from the disk when they are used. Raises SeqrecError when there is none, or when the file is torn or not a
    checkpoint of this tool; `setting` is what another one would be given as.
    """
    file = checkpoint_file(Path(path))
    try:
        with warnings.catch_warnings(action="ignore"):  # a foreign file gets one line, ours
            payload = torch.load(file, map_location="cpu", weights_only=True, mmap=not whole)
    except Exception as error:  # bytes from outside: torch raises a dozen kinds
        beside = file.with_name({BEST: LAST, LAST: BEST}.get(file.name, file.name))
        whole = beside != file and is_readable(beside)
        other = f"{shell_override(setting, beside)}, beside it" if whole else f"another {setting}, or train anew"
        raise SeqrecError(f"{file}: not a readable checkpoint (torn or foreign); give {other}") from error
    if not isinstance(payload, dict) or payload.keys() != KEYS:
        raise SeqrecError(f"{file}: not a seqrec checkpoint; give a run folder, or its {BEST} or {LAST}")
    if payload["format"] not in (FORMAT, SHARDED):
        raise SeqrecError(
            f"{file}: checkpoint format {payload['format']}, this version reads {FORMAT} and {SHARDED}; train again, "
            "or use the version that wrote it"
        )
    if whole and payload["format"] == SHARDED:
        from seqrec_cli.training.sharded_checkpoint import read_whole  # torch.distributed: where it is needed

        payload = read_whole(payload, file)
    return payload | {"model": {_renamed(name): tensor for name, tensor in payload["model"].items()}}


def with_whole_tables(file: Path) -> str | None:
    """Make one file of a checkpoint whose tables are in shards, where memory holds them; a line where it does not."""
    payload = load_checkpoint(file, whole=False)
    if payload.pop("format") == FORMAT:
        return None
    from seqrec_cli.training.sharded_checkpoint import read_whole, remove_shards, whole_bytes

    needed, left = whole_bytes(payload, file), memory_left()
    if left is not None and 2 * needed > left:
        return f"{file}: its tables, {needed / GIB:.1f} GiB, stay in shards beside it; copy the run's folder as a whole"
    save_checkpoint(file, read_whole(payload, file))
    remove_shards(file)
    return None


def is_readable(file: Path) -> bool:
    """Whether a checkpoint file is there and whole, so that a message may name it as a way out."""
    try:
        with warnings.catch_warnings(action="ignore"):
            payload = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # as in load_checkpoint
        return False
    return isinstance(payload, dict) and payload.keys() == KEYS


def _renamed(name: str) -> str:
    return ".".join(RENAMED.get(part, part) for part in name.split("."))


def checkpoint_file(path: Path) -> Path:
    """The file itself, or the best of a run folder. Raises SeqrecError where there is none."""
    if path.is_dir():
        if (path / BEST).is_file():
            return path / BEST
        hint = f"; it was not validated yet, give {path / LAST}" if (path / LAST).is_file() else "; is it a run folder?"
        raise SeqrecError(f"{path}: no {BEST} in it{hint}")
    if not path.is_file():
        raise SeqrecError(f"{path}: no such run folder or checkpoint file; give the path of one that exists")
    return path
