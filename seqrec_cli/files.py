"""Files and folders that appear whole or not at all: written under another name, then renamed.

Readers see the old one or the new one, never a part, whoever writes at the same time and whenever a run is killed. What
a killed process left under its temporary name is swept when the next one writes beside it.
"""

import contextlib
import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# .NAME.MACHINE.PROCESS.RANDOM.tmp; older versions wrote no MACHINE.
_LEFT_OVER = re.compile(r"^\..+?(?:\.(?P<machine>[0-9a-f]{8}))?\.(?P<process>\d+)\.[0-9a-f]{8}\.tmp$")
DAY = 86_400  # seconds after which nobody writes under a temporary name any more
_swept: set[Path] = set()


@functools.cache
def _machine() -> str:
    """Where this process has its number: of a folder that several machines or containers share, each has its own."""
    namespace = ""
    with contextlib.suppress(OSError, AttributeError):  # not on Linux
        namespace = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{socket.gethostname()} {namespace}".encode()).hexdigest()[:8]


def _temporary(path: Path) -> Path:
    """A name of this writer's own, in the same folder: only there is renaming atomic."""
    return path.with_name(f".{path.name}.{_machine()}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def sweep(folder: Path) -> list[Path]:
    """Delete what killed processes left in a folder under names of `_temporary`; returns what was deleted.

    It is left alone while its process lives, and for a day where that cannot be known (on another machine).
    """
    deleted = []
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            found = _LEFT_OVER.match(entry.name)
            if found is not None and _abandoned(entry, found):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)
                deleted.append(entry)
    return deleted


def _abandoned(entry: Path, found: re.Match[str]) -> bool:
    if found["machine"] == _machine():
        return not _lives(int(found["process"]))
    return time.time() - max(path.lstat().st_mtime for path in (entry, *entry.glob("*"))) > DAY


def _lives(process: int) -> bool:
    if os.name == "nt":  # os.kill ends the process there, whatever the signal
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


def sweep_once(folder: Path) -> None:
    """`sweep`, at the first call of this process alone."""
    if folder not in _swept:
        _swept.add(folder)
        sweep(folder)


@contextlib.contextmanager
def _named(path: Path, temporary: Path) -> Iterator[None]:
    """An OSError of the block names what was to be written: that of `write` names nothing, others the temporary."""
    try:
        yield
    except OSError as error:
        unnamed = error.errno is not None and error.filename is None
        if unnamed or str(error.filename).startswith(str(temporary)):
            error.filename = str(path)
        raise


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends, and is deleted when it fails."""
    temporary = _temporary(path)
    sweep_once(path.parent)
    try:
        with _named(path, temporary):
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
    sweep_once(path.parent)
    with _named(path, temporary):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            if replace and path.exists():
                path.rename(earlier)
            try:
                temporary.rename(path)
            except OSError:
                if earlier.exists():
                    earlier.rename(path)
                raise
            shutil.rmtree(earlier, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def one_builder(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """One process at a time makes the folder, or what belongs into it: jobs that start at the same instant share work.

    Whoever waited looks again whether it is there. Where the disk takes no locks, each makes it, and the first one's
    stays.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{folder}: another process is making it; waiting")
            lock.acquire()
    except OSError:  # what hinders the lock hinders the folder too, and is told there
        yield
        return
    try:
        yield
    finally:
        lock.release()


def write_atomically(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
