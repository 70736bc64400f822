"""Changes of the items, a line of JSON each, in a file that is appended to. All processes read it.

A line is written whole under a lock and reaches the disk before its change is answered. A process that was killed while
it wrote leaves a line without an end, which no reader takes and the next writer cuts off. Lines without effect are
taken out now and then (`item_compaction`): a new file takes the place of the old one, and every reader goes on in it
where it was. A file that somebody deletes is written again from the copy that each reader keeps open.
"""

import contextlib
import json
import logging
import os
import secrets
import threading
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.serving.item_compaction import MARK, NTH, compacted
from seqrec_cli.serving.item_lines import Change, change_of, head_of

FORMAT = 1
NEVER = 2**62  # lines
log = logging.getLogger("seqrec_cli.serving")


class ItemJournal:
    """Appends, and reads what it has not read yet. One thread at a time reads; any may append."""

    def __init__(self, folder: Path, dataset: str, compact_at: int = NEVER) -> None:
        """`compact_at`: lines of the file from which on those without effect are taken out. Raises SeqrecError where
        the folder cannot be used, or holds the changes of another dataset."""
        self.path, self._lock, self._compact_at = folder / "items.jsonl", FileLock(folder / "items.lock"), compact_at
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._lock:
                if not self.path.exists() or not self.path.stat().st_size:
                    head = {"format": FORMAT, "dataset": dataset, "journal": secrets.token_hex(8)}
                    _append(self.path, head)
            self._file = self.path.open("rb")
        except OSError as error:
            raise SeqrecError(f"state={folder}: cannot be written ({os.strerror(error.errno or 0)})") from error
        line = self._file.readline()
        self._head = head_of(line)
        if self._head.get("format") != FORMAT:
            raise SeqrecError(f"state={folder}: items.jsonl is no journal of this version; give an empty folder")
        if self._head.get("dataset") != dataset:
            raise SeqrecError(
                f"state={folder}: its items are of dataset={self._head.get('dataset')}, the run is of "
                f"dataset={dataset}; give another folder"
            )
        self._read_bytes, self._lines = len(line), 1  # of the file that is open
        self._nth = 0  # changes since the first of all, whether or not their lines are still there
        self._swapping = threading.Lock()  # of the open file, which others may read too
        self._restored = True  # the file is there, or it has been said that it is not

    def append(self, change: Change) -> None:
        """On the disk when it returns. Raises OSError, and then nothing was appended."""
        with self._locked():
            if not self.path.exists():
                self._restore()
            _append(self.path, change)
        self.compact_if_due()

    def grown(self) -> bool:
        """Whether there is more than was read, or another file in the place of this one."""
        try:
            found = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return self._deleted()
        self._restored = True
        return not os.path.samestat(found, os.fstat(self._file.fileno())) or found.st_size != self._read_bytes

    def read(self) -> list[Change]:
        """The whole lines since the last call, before a damaged one. Raises SeqrecError where that is the next, and
        where what was read is not what the file begins with."""
        self._follow()
        if os.fstat(self._file.fileno()).st_size < self._read_bytes:
            raise SeqrecError(f"{self.path}: it was cut while the service ran; start the service anew")
        self._file.seek(self._read_bytes)
        data = self._file.read()
        whole = data[: data.rfind(b"\n") + 1]
        changes = list[Change]()
        for line in whole.splitlines(keepends=True):
            change = change_of(line)
            if change is None and MARK not in head_of(line):
                if changes:  # these first
                    break
                raise SeqrecError(f"{self.path}: line {self._lines + 1} is damaged; mend or delete it")
            if change is not None:
                nth = change.pop(NTH, self._nth + 1)
                if nth > self._nth:  # not read before, from the file that this one has replaced
                    changes.append(change)
                    self._nth = nth
            self._lines += 1
            self._read_bytes += len(line)
        return changes

    def compact_if_due(self) -> None:
        """Take lines without effect out of the file, where it has become long; whatever fails, the file stays."""
        if self._lines < max(self._compact_at, 2 * self._head.get("lines", 0)):
            return
        with contextlib.suppress(OSError), self._locked():
            with self.path.open("r+b") as file:
                found = compacted(file, self.path, self._compact_at)
            if found is not None:
                log.info(
                    "%s: %d of %d lines were without effect, and are left out", self.path, found.left_out, found.lines
                )

    def _follow(self) -> None:
        """Into the file that has taken the place of the one that was open. Raises SeqrecError where it is another's."""
        try:
            file = self.path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return  # the one that is open has all
        self._restored = True
        if os.path.samestat(os.fstat(file.fileno()), os.fstat(self._file.fileno())):
            file.close()
            return
        line = file.readline()
        head = head_of(line)
        generation, former = head.get("generation", 0), self._head.get("generation", 0)
        if head.get("journal") != self._head.get("journal") or generation < former:
            file.close()
            raise SeqrecError(f"{self.path}: another file took its place; start the service anew to take its items")
        if generation > former:
            self._read_bytes, self._lines = len(line), 1
        with self._swapping:
            self._file, before = file, self._file
            before.close()
        self._head = head

    def _deleted(self) -> bool:
        """The file is not there: write it again, and say so. Whether there is something new to read."""
        if not self._restored:
            return False
        try:
            with self._locked():
                if not self.path.exists():
                    self._restore()
        except OSError as error:
            self._restored = False  # said once, tried again with the next change
            log.warning("%s was deleted under the service and cannot be written again (%s)", self.path, error.strerror)
            return False
        return True

    def _restore(self) -> None:
        """From the copy that is open, under the lock. Raises OSError, too where another process has a newer one."""
        with self._swapping:  # not by the file's position, which is the reader's
            whole = os.pread(self._file.fileno(), os.fstat(self._file.fileno()).st_size, 0)
        whole = whole[: whole.rfind(b"\n") + 1]
        if MARK in head_of(whole[whole.rfind(b"\n", 0, -1) + 1 :]):
            raise OSError(0, "items.jsonl was deleted, and another process has the newer copy; start the service anew")
        new = self.path.with_suffix(".restored")
        with new.open("wb") as file:
            file.write(whole)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        log.warning("%s was deleted under the service, and is written again with all its changes", self.path)

    @contextlib.contextmanager
    def _locked(self) -> Any:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            yield


def _append(path: Path, change: Change) -> None:
    line = json.dumps(change, allow_nan=False).encode() + b"\n"
    with path.open("a+b") as file:
        end = whole_end(file)
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


def whole_end(file: IO[bytes]) -> int:
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
