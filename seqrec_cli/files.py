"""Files and folders that appear whole or not at all: written under another name, then renamed.

Readers see the old one or the new one, never a part, whoever writes at the same time and whenever a run is killed.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


def _temporary(path: Path) -> Path:
    """A name of this writer's own, in the same folder: only there is renaming atomic."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends, and is deleted when it fails."""
    temporary = _temporary(path)
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())  # else a power cut could leave the new name with no bytes
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `path` when the block ends, and is deleted when it fails.

    Raises OSError where a folder that is not empty has that name, unless it is to be replaced.
    """
    temporary, earlier = _temporary(path), _temporary(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if replace and path.exists():
            path.rename(earlier)
        temporary.rename(path)
        shutil.rmtree(earlier, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
