"""A sweep's folder: a row a job as it ends, the number each job has, and what runs at the moment.

Jobs may run in other processes and on other machines, so all that they and the sweep know of each other is here.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqrec_cli.files import write_atomically

Row = dict[str, Any]  # of a job that ended; `empty_row` has its keys
# where it lies and runs, and whether its test is read, which a sweep does at its end
NOT_A_JOBS_OWN = ("run_dir=", "data_dir=", "hardware.device=", "hardware.threads=", "evaluation.test=")
ENDED_WELL = "done"


def empty_row(job: int, overrides: Sequence[str]) -> Row:
    """A job's row before anything is known of it. `settings` and `data` are fingerprints."""
    row: Row = {"job": job, "overrides": list(overrides), "monitor": None, "val": None, "run_dir": None}
    row |= {"fingerprint": None, "seal": None, "metrics": {}, "spread": {}, "error": None}
    return row | {"state": None, "settings": None, "data": None, "seconds": None, "log": None}


@dataclass(frozen=True)
class Launch:
    """One command's part of a sweep: the number of each of its jobs, in the launcher's order, and what each may use."""

    numbers: tuple[int, ...] | None  # None where the sweeper does not tell its jobs in advance
    at_once: int | None = None
    threads: int | None = None
    gpus: tuple[str, ...] = ()

    def number(self, nth: int) -> int:
        """The number of the launcher's nth job."""
        return nth if self.numbers is None or nth >= len(self.numbers) else self.numbers[nth]


class SweepFolder:
    """The files of one sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.jobs_jsonl = path / "jobs.jsonl"  # a row a job as it ends, whichever way; the last of a job counts
        self.plan_json = path / "plan.json"  # the overrides of each job, by its number
        self.lock = path / ".sweep.lock"  # held while a sweep is under way
        self.under_way = path / ".jobs"  # a file a running job, and what its process says at its end
        self.logs = path / "logs"  # what each job printed
        self.board_csv = path / "leaderboard.csv"
        self.board_md = path / "leaderboard.md"
        self.coordinates_png = path / "parallel_coordinates.png"
        self.curves_png = path / "learning_curves.png"
        self.page_html = path / "sweep.html"

    def rows(self) -> list[Row]:
        """The last row of each job, by job number."""
        if not self.jobs_jsonl.is_file():
            return []
        found: dict[int, Row] = {}
        for line in self.jobs_jsonl.read_bytes().splitlines():
            try:
                row = json.loads(line)
                found[int(row["job"])] = empty_row(row["job"], row.get("overrides", ())) | row
            except (ValueError, TypeError, KeyError):  # of a job that was killed, or whose disk was full, as it wrote
                print(f"{self.jobs_jsonl}: a line is cut and its job left out of the table", file=sys.stderr)
        return [found[number] for number in sorted(found)]

    def row(self, job: int) -> Row | None:
        """A job's last row."""
        return next((row for row in self.rows() if row["job"] == job), None)

    def append(self, row: Row) -> None:
        """Add the row of a job that ended; a line of another that was cut stays a line of its own."""
        from filelock import FileLock

        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / ".rows.lock"), self.jobs_jsonl.open("ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                cut = file.read(1) != b"\n"
            else:
                cut = False
            file.write((b"\n" if cut else b"") + json.dumps(row).encode() + b"\n")

    def plan(self, jobs: Sequence[Sequence[str]] | None) -> tuple[int, ...] | None:
        """Numbers of these jobs: one that was in the folder before keeps its own, others come behind.

        A job is known by its overrides. Not the same bytes: what it trained is told by `settings` and `data`.
        """
        if jobs is None:
            return None
        known = self._known()
        seen: Counter[str] = Counter()
        numbers = []
        for overrides in jobs:
            key = _key(overrides)
            places = [number for number, other in known.items() if _key(other) == key]
            number = places[seen[key]] if len(places) > seen[key] else max(known, default=-1) + 1
            seen[key] += 1
            known[number] = list(overrides)
            numbers.append(number)
        self.path.mkdir(parents=True, exist_ok=True)
        self._write({"jobs": {str(number): known[number] for number in sorted(known)}})
        return tuple(numbers)

    def write_launch(self, launch: Launch) -> None:
        """What jobs have to know of the command that started them."""
        shared = {"numbers": launch.numbers, "at_once": launch.at_once}
        self._write({"launch": shared | {"threads": launch.threads, "gpus": launch.gpus}})

    def read_launch(self) -> Launch:
        """As it was written; a launch that tells nothing where there is none."""
        found = self._read().get("launch") or {"numbers": None}
        numbers = found["numbers"]
        return Launch(
            None if numbers is None else tuple(numbers),
            found.get("at_once"),
            found.get("threads"),
            gpus=tuple(found.get("gpus") or ()),
        )

    def planned(self, launch: Launch) -> list[Row]:
        """A row of what is known in advance, for each job of a launch."""
        known = self._known()
        return [empty_row(number, known[number]) for number in dict.fromkeys(launch.numbers or ()) if number in known]

    def _known(self) -> dict[int, list[str]]:
        planned = {int(number): list(overrides) for number, overrides in self._read().get("jobs", {}).items()}
        return {row["job"]: list(row["overrides"]) for row in self.rows()} | planned

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.plan_json.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, facts: dict[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.plan_json, json.dumps(self._read() | facts, indent=1) + "\n")

    def begin(self, job: int, facts: dict[str, Any]) -> Path:
        """Say that a job runs; the file's path. What it holds is read by the job's own process."""
        self.under_way.mkdir(parents=True, exist_ok=True)
        self.result(job).unlink(missing_ok=True)
        path = self.under_way / f"{job}.json"
        write_atomically(path, json.dumps(facts))
        return path

    def result(self, job: int) -> Path:
        """Where a job's process writes how it ended."""
        return self.under_way / f"{job}.result.json"

    def alive(self, job: int) -> Path:
        """A lock that a job's process holds while it lives."""
        return self.under_way / f"{job}.lock"

    def read_result(self, job: int) -> dict[str, Any] | None:
        """How a job's process ended by its own word; None where it said nothing."""
        return _object(self.result(job))

    def running(self) -> dict[int, dict[str, Any]]:
        """What was said of the jobs that run now, or whose end nobody saw, by number."""
        found = {}
        for path in self.under_way.glob("*.json"):
            if path.stem.isdecimal() and (facts := _object(path)) is not None:
                found[int(path.stem)] = facts
        return dict(sorted(found.items()))

    def end(self, row: Row) -> None:
        """A job ended: its row is written, and it runs no longer."""
        self.append(row)
        (self.under_way / f"{row['job']}.json").unlink(missing_ok=True)
        self.result(row["job"]).unlink(missing_ok=True)


def _object(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _key(overrides: Sequence[str]) -> str:
    return "\n".join(sorted(text for text in overrides if not text.lstrip("+").startswith(NOT_A_JOBS_OWN)))
