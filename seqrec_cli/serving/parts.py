"""Work in parts that a killed process leaves behind and the same command goes on with.

Beside `OUTPUT` a folder `OUTPUT.parts` holds what the command was (`job.json`), and for each chunk of rows its answers
and what came of them. One process works in it at a time.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.files import write_atomically
from seqrec_cli.serving.answered_rows import Counts

JOB = "job.json"


class Parts:
    """The folder of parts; `facts` are all that the answers depend on, by the names of settings."""

    def __init__(self, output: Path, facts: Mapping[str, Any]) -> None:
        self.output, self.folder = output, output.with_name(f"{output.name}.parts")
        self._facts = dict(facts)
        self.found: dict[str, Any] | None = None  # what the first process noted, where this one goes on

    @property
    def begun(self) -> bool:
        """Whether a command was noted here."""
        return (self.folder / JOB).is_file()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """No other process works here meanwhile, and the parts that are there are this command's own.

        Raises SeqrecError where one does, or they are not.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise SeqrecError(f"output={self.output}: another process is writing it") from None
        try:
            self._look()
            yield
        finally:
            lock.release()
            if not (self.folder / JOB).exists():  # nothing is kept of a command that was refused, or is done
                shutil.rmtree(self.folder, ignore_errors=True)

    def begin(self, noted: Mapping[str, Any]) -> None:
        """Note the command, before its first part."""
        self.found = dict(noted)
        write_atomically(self.folder / JOB, json.dumps({"facts": self._facts, "noted": self.found}, indent=1))

    def path(self, part: int) -> Path:
        """Of a part's answers."""
        return self.folder / f"part-{part:06d}"

    def done(self, part: int) -> Counts | None:
        """What came of a part that is done; None where it is not, or is damaged."""
        try:
            told = json.loads(self._counts(part).read_text(encoding="utf-8"))
            return Counts(**told["counts"]) if told["sha256"] == _digest(self.path(part)) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note(self, part: int, counts: Counts) -> None:
        """What came of a part, when its answers are written: where this is, these are whole."""
        told = {"counts": asdict(counts), "sha256": _digest(self.path(part))}
        write_atomically(self._counts(part), json.dumps(told))

    def end(self) -> None:
        """The answers are one file now: the folder goes, at the end of `held`."""
        (self.folder / JOB).unlink()

    def _counts(self, part: int) -> Path:
        return self.folder / f"part-{part:06d}.json"

    def _look(self) -> None:
        job = self.folder / JOB
        if not job.exists():  # killed before it was noted, or after the end
            for part in self.folder.glob("part-*"):
                part.unlink()
            return
        try:
            found = json.loads(job.read_text(encoding="utf-8"))
            facts, noted = found["facts"], found["noted"]
        except (ValueError, KeyError, TypeError):
            raise SeqrecError(f"{job}: not a record of this tool; delete that folder") from None
        mine = json.loads(json.dumps(self._facts))
        differ = [name for name in {**facts, **mine} if facts.get(name) != mine.get(name)]
        if differ:
            raise SeqrecError(
                f"output={self.output}: {self.folder} has the parts of another command (other: {', '.join(differ)}); "
                "finish that one, delete the folder, or name another output"
            )
        self.found = noted


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
