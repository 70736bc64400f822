"""The lock of a study's journal. Imported with Optuna, which is an extra."""

import os
from pathlib import Path

from filelock import FileLock
from optuna.storages.journal._file import BaseJournalFileLock


class JournalLock(BaseJournalFileLock):
    """The journal's lock, which the operating system ends with its holder: Optuna's own outlives a killed worker.

    A line that such a worker left cut is taken away before another is added to it.
    """

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.lock = FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        self.lock.acquire()
        with open(self.journal, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self.lock.release()
