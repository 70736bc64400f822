"""Writes the log of an online experiment (`data.exposure_log` has its form): whole lines, before they are answered.

A line is handed to the system in one call, on a file that is opened for appending: processes that share a file do not
cut into each other's lines, and a process that is killed leaves at most its last line torn. A power cut may take what
the system has not written yet; at the service's end everything is.
"""

import os
import secrets
import time
from pathlib import Path
from typing import Any

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.exposure_log import MARK, SUFFIX, line


class ExposureWriter:
    """Appends to a file. `log` names it (`.jsonl`), or a folder that gets a file of this process's own."""

    def __init__(self, log: str) -> None:
        path = Path(log).expanduser()
        try:
            self.path = path if path.suffix == SUFFIX or path.is_file() else _own_file(path)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _refuse_another(self.path)
            binary = getattr(os, "O_BINARY", 0)  # of Windows, which else writes \r\n for \n
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | binary, 0o640)
        except OSError as error:
            raise SeqrecError(f"log={log}: {os.strerror(error.errno or 0)}; give another file or folder") from error

    def write(self, kind: str, **facts: Any) -> None:
        """A line of that kind, now. Raises OSError where it cannot be written."""
        text = line(kind, time.time(), **facts)
        written = os.write(self._file, text)
        if written < len(text):  # the disk is full, or nearly: what is torn ends here, and the line is written anew
            text = b"\n" + text
            if os.write(self._file, text) < len(text):
                raise OSError(f"{self.path}: a line was not written to its end")

    def close(self) -> None:
        """Nothing of it is only in memory any more."""
        os.fsync(self._file)
        os.close(self._file)


def _own_file(folder: Path) -> Path:
    """Processes of several machines may share a folder, and a number."""
    return folder / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"


def _refuse_another(path: Path) -> None:
    if not path.is_file():
        return
    with path.open("rb") as file:
        begins = file.read(len(MARK))
    if begins and begins != MARK:
        raise SeqrecError(f"log={path}: this file is no log of an online experiment; give another")
