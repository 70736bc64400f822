"""Whether a folder of arrays is what was written: sizes at every opening, contents once a machine, or when asked.

A folder is sealed by a table of its files in the manifest (size, SHA-256) and a checksum of the manifest itself.
What has been read through once is remembered, by sizes and times of change, in the user's cache folder: the 4 MB of
MovieLens-1M's ids took 18 ms of a busy core, and 0.1 ms from then on. Folders of before have no table: their indices
are checked instead, just as often.

Legend: U users, N events, V items, R requests or labelled rows, F context attributes.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.files import write_atomically

MANIFEST = "manifest.json"
FILES, SEAL = "files", "seal"  # of the manifest
PART = 1 << 22  # numbers checked at once, so that little memory is taken


class DamagedError(ValueError):
    """What is wrong with a folder, in words."""


def seal(folder: Path) -> None:
    """Write the table of the folder's files, and the manifest's own checksum, into its manifest."""
    manifest = read_manifest(folder)
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    manifest[FILES] = {name: [(folder / name).stat().st_size, _hash(folder / name)] for name in names}
    manifest[SEAL] = _seal_of(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises `DamagedError` where it is no object of names and values, or not what was sealed."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(f"{MANIFEST} cannot be read as JSON") from error
    if not isinstance(manifest, dict):
        raise DamagedError(f"{MANIFEST} holds no names and values")
    if SEAL in manifest and manifest[SEAL] != _seal_of(manifest):
        raise DamagedError(f"{MANIFEST} is not as it was written")
    return manifest


def check_sizes(folder: Path, manifest: dict[str, Any]) -> None:
    """Raises `DamagedError` where a file of the table is missing, or longer or shorter than it was."""
    for name, (size, _) in manifest.get(FILES, {}).items():
        try:
            found = (folder / name).stat().st_size
        except OSError:
            raise DamagedError(f"{name} is missing") from None
        if found != size:
            raise DamagedError(f"{name} has {found:,} bytes and was written with {size:,}")


def check_contents(folder: Path, manifest: dict[str, Any], indices: Callable[[], None], *, anew: bool = False) -> None:
    """Raises `DamagedError` where bytes are not what was written; of a folder without a table, what `indices` finds.

    Once a machine, or `anew`.
    """
    note, state = _note_of(folder), _state(folder)
    if not anew and note is not None and _read(note) == state:
        return
    for name, (_, checksum) in manifest.get(FILES, {}).items():
        if _hash(folder / name) != checksum:
            raise DamagedError(f"{name} has other bytes than were written")
    if FILES not in manifest:
        indices()
    if note is not None:
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(note, json.dumps(state))
        except OSError:  # nothing to write to: it is read through again the next time
            pass


def in_range(name: str, array: np.ndarray, *, low: int, high: int) -> None:
    """Raises `DamagedError` unless every index lies in low..high."""
    flat = array.reshape(-1)
    for first in range(0, len(flat), PART):
        part = flat[first : first + PART]
        if int(part.min()) < low or int(part.max()) > high:
            wrong = first + int(np.flatnonzero((part < low) | (part > high))[0])
            raise DamagedError(f"{name} holds {flat[wrong]} at {wrong:,}, beyond {low} to {high:,}")


def rising(name: str, array: np.ndarray) -> None:
    """Raises `DamagedError` where a number is lower than the one before it."""
    if np.any(np.diff(array) < 0):
        raise DamagedError(f"{name} does not rise")


def finite(name: str, array: np.ndarray) -> None:
    """Raises `DamagedError` where a number is none."""
    if not np.isfinite(array).all():
        raise DamagedError(f"{name} holds numbers that are not finite")


def of_shape(name: str, array: np.ndarray, *, kind: str, shape: tuple[int | None, ...]) -> None:
    """Raises `DamagedError` unless it has that kind of numbers ("i" integers, "f" fractions) and shape (None: any)."""
    if array.dtype.kind not in kind:
        raise DamagedError(f"{name} holds numbers of the kind {array.dtype}")
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, found) for found, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        told = " x ".join("any" if size is None else f"{size:,}" for size in shape)
        raise DamagedError(f"{name} is {' x '.join(f'{size:,}' for size in array.shape)}, expected {told}")


def damaged(folder: Path, error: BaseException, then: str = "it is built again") -> SeqrecError:
    """The refusal, with the remedy."""
    what = str(error) if isinstance(error, DamagedError) else f"{type(error).__name__}: {error}"
    return SeqrecError(f"{folder} is damaged ({what}); delete it, and {then}")


def _seal_of(manifest: dict[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state(folder: Path) -> dict[str, list[int]]:
    stats = {path.name: path.stat() for path in sorted(folder.iterdir()) if path.is_file()}
    return {name: [stat.st_size, stat.st_mtime_ns, stat.st_ino] for name, stat in stats.items()}


def _note_of(folder: Path) -> Path | None:
    """Where it is remembered that this folder was read through; None where there is no home to write in."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    name = hashlib.sha256(os.path.realpath(folder).encode(errors="surrogateescape")).hexdigest()[:32]
    return home / "seqrec" / "verified" / f"{name}.json"


def _read(note: Path) -> Any:
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
