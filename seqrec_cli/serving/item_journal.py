"""Changes of the items, a line of JSON each, in a file that is only ever appended to. All processes read it.

A line is written whole under a lock and reaches the disk before its change is answered. A process that was killed while
it wrote leaves a line without an end, which no reader takes and the next writer cuts off.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from filelock import FileLock

from seqrec_cli.config.errors import SeqrecError

FORMAT = 1
FROM = ("vector", "attributes", "text_vector", "like", "trained")  # one of these says what an item's vector is
FROM_OF = {"put": 1, "delete": 0}  # how many of these a change has
Change = dict[str, Any]


class ItemJournal:
    """Appends, and reads what it has not read yet. One thread at a time reads; any may append."""

    def __init__(self, folder: Path, dataset: str) -> None:
        """Raises SeqrecError where the folder cannot be used, or holds the changes of another dataset."""
        self.path, self._lock = folder / "items.jsonl", FileLock(folder / "items.lock")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._lock:
                if not self.path.exists() or not self.path.stat().st_size:
                    self._append({"format": FORMAT, "dataset": dataset})
        except OSError as error:
            raise SeqrecError(f"state={folder}: cannot be written ({os.strerror(error.errno or 0)})") from error
        self._read_bytes, self._lines = 0, 0
        head = self._first_line()
        if head.get("format") != FORMAT:
            raise SeqrecError(f"state={folder}: items.jsonl is no journal of this version; give an empty folder")
        if head["dataset"] != dataset:
            raise SeqrecError(
                f"state={folder}: its items are of dataset={head['dataset']}, the run is of dataset={dataset}; "
                "give another folder"
            )

    def append(self, change: Change) -> None:
        """On the disk when it returns. Raises OSError, and then nothing was appended."""
        with self._lock:
            self._append(change)

    def grown(self) -> bool:
        """Whether there is more than was read."""
        try:
            return os.stat(self.path).st_size > self._read_bytes
        except FileNotFoundError:
            return False

    def read(self) -> list[Change]:
        """The whole lines since the last call, before a damaged one. Raises SeqrecError where that is the next."""
        with self.path.open("rb") as file:
            file.seek(self._read_bytes)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        changes = list[Change]()
        for line in whole.splitlines(keepends=True):
            change = _change(line)
            if change is None:
                if changes:  # these first
                    break
                raise SeqrecError(f"{self.path}: line {self._lines + 1} is damaged; mend or delete it")
            changes.append(change)
            self._lines += 1
            self._read_bytes += len(line)
        return changes

    def _first_line(self) -> Change:
        """What follows it is read next."""
        with self.path.open("rb") as file:
            line = file.readline()
        self._read_bytes, self._lines = len(line), 1
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            return found if isinstance(found, dict) else {}
        return {}

    def _append(self, change: Change) -> None:
        line = json.dumps(change, allow_nan=False).encode() + b"\n"
        with self.path.open("a+b") as file:
            end = _whole_end(file)
            if end < file.seek(0, os.SEEK_END):
                file.truncate(end)
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise


def _change(line: bytes) -> Change | None:
    """What a line says, if it is a change of an item."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    is_one = isinstance(found, dict) and isinstance(found.get("item"), str | int) and found.get("op") in FROM_OF
    if not is_one or sum(found.get(name) not in (None, False) for name in FROM) != FROM_OF[found["op"]]:
        return None
    return dict(found)


def _whole_end(file: Any) -> int:
    """Behind the last whole line."""
    end: int = file.seek(0, os.SEEK_END)
    at = end
    while at > 0:
        first = max(at - 65536, 0)
        file.seek(first)
        found = file.read(at - first).rfind(b"\n")
        if found >= 0:
            return int(first + found + 1)
        at = first
    return 0
