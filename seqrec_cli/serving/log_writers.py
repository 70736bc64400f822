"""Services that write one log are told of each other: their plans decide whether `compare` can count them as one.

Each holds a lock file beside the log for as long as it runs, with its plan; that of a killed service is free.
"""

import contextlib
import glob
import json
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.exposure_log import SUFFIX
from seqrec_cli.saying import Say

BEFORE_LOCK, LOCK = ".written-by-", ".lock"


@contextlib.contextmanager
def written_by_us(log: str, plan: str, tell: Say) -> Iterator[None]:
    """While this service writes `log` (a file, or a folder of files). Tells of another that does so by the same plan;
    raises SeqrecError for one of another plan, and where the place cannot be written."""
    path = Path(log).expanduser()
    is_file = path.suffix == SUFFIX or path.is_file()
    folder, of = (path.parent, path.name) if is_file else (path, "")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{BEFORE_LOCK}{of}{LOCK}"):  # one looks at a time
            others = list(_others(folder, of))
            for each in others:
                if each["plan"] != plan:
                    raise SeqrecError(
                        f"log={log}: {_who(each)} writes there too, with other runs, shares or salt, and of two "
                        "plans in one log compare names no winner; give another file or folder"
                    )
            own = folder / f"{BEFORE_LOCK}{of}{LOCK}-{secrets.token_hex(4)}"
            lock = FileLock(own)
            lock.acquire(timeout=0)
            # Beside the lock, which is emptied by whoever tries it.
            _facts(own).write_text(json.dumps({"plan": plan, "process": os.getpid(), "host": socket.gethostname()}))
    except OSError as error:
        raise SeqrecError(f"log={log}: {os.strerror(error.errno or 0)}; give another file or folder") from error
    for each in others:
        tell(f"NOTE: {_who(each)} writes to log={log} too, by the same plan: compare counts both as one experiment")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _facts(own).unlink()
            lock.release()
            own.unlink(missing_ok=True)


def _others(folder: Path, of: str) -> Iterator[dict[str, Any]]:
    """The services that hold their locks; what the others left is removed."""
    for path in folder.glob(f"{BEFORE_LOCK}{glob.escape(of)}{LOCK}-*"):
        if path.suffix == ".json":
            continue
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            with contextlib.suppress(OSError, ValueError):
                yield json.loads(_facts(path).read_text())
            continue
        for each in (path, _facts(path)):
            each.unlink(missing_ok=True)


def _facts(lock: Path) -> Path:
    return lock.with_name(lock.name + ".json")


def _who(facts: dict[str, Any]) -> str:
    return f"the service of process {facts['process']} on {facts['host']}"
