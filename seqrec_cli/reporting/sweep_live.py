"""A sweep while it runs: a table on a terminal, a line a job elsewhere."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrec_cli.reporting.lines import Lines
from seqrec_cli.reporting.run_folder import RunFolder, read_rows
from seqrec_cli.reporting.sweep_board import number, state_of
from seqrec_cli.reporting.sweep_folder import Launch, Row, SweepFolder
from seqrec_cli.reporting.sweep_rank import best_of, monitors_of, short, varying

if TYPE_CHECKING:
    from rich.table import Table

EVERY = 1.0  # seconds between two looks at the folder
LATEST = 8  # ended jobs in the table


class Watch:
    """Looks at the folder from a thread of its own, and tells what it sees until `stop`."""

    def __init__(self, folder: SweepFolder, launch: Launch) -> None:
        self.folder, self.launch = folder, launch
        self.console = Lines(highlight=False, soft_wrap=True, markup=False)
        self.began = time.time()
        self.keys = varying(folder.planned(launch))
        self.size = folder.jobs_jsonl.stat().st_size if folder.jobs_jsonl.is_file() else 0
        self.earlier = {row["job"]: row for row in folder.rows()} if self.size else {}
        self.told: set[int] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin. Nothing is said before a job has begun: Hydra may refuse them all."""
        self._thread.start()

    def beginning(self) -> str:
        """`12 jobs, 2 at once, a thread each`, and what an earlier start has done of them."""
        numbers = self.launch.numbers
        at_once = self.launch.at_once or 1
        told = ["a sweep" if numbers is None else _jobs(len(numbers))]
        if at_once > 1:
            told.append(f"{at_once} at once")
        if self.launch.threads is not None:
            told.append(f"{self.launch.threads} thread{'s' * (self.launch.threads > 1)} each")
        if self.launch.gpus:
            told.append(f"GPUs {', '.join(self.launch.gpus)} in turn")
        done = [row for row in self.earlier.values() if not row["error"] and self._asked(row)]
        if self.earlier:
            told.append(f"{len(done)} done before, kept where settings and data are the same")
        return f"{', '.join(told)}; folder {self.folder.path}"

    def stop(self) -> None:
        """Tell the last rows, and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        if not self.console.is_terminal:
            said = False
            while not self._stopping.wait(EVERY):
                said = said or self._said_beginning()
                self._tell_new()
            if said or self._said_beginning():
                self._tell_new()
            return
        from rich.live import Live

        while not self._said_beginning():
            if self._stopping.wait(EVERY):
                return
        with Live(console=self.console, transient=True, auto_refresh=False, vertical_overflow="crop") as live:
            while not self._stopping.wait(EVERY):
                live.update(self.table(), refresh=True)

    def _said_beginning(self) -> bool:
        if not self.folder.running() and not any(self._ended_now(row) for row in self._rows()):
            return False
        self.console.print(self.beginning())
        return True

    def _tell_new(self) -> None:
        """A line for each row that came since the last look."""
        rows = self._rows()
        keys = self.keys or varying(rows)
        for row in rows:
            if self._ended_now(row) and row["job"] not in self.told:
                self.told.add(row["job"])
                self.console.print(self.line(row, rows, keys))

    def line(self, row: Row, rows: Sequence[Row], keys: Sequence[str]) -> str:
        """`job 3 done: lr=1e-3, ndcg@10 0.1234, 12 s; 4 of 12 ended, 1 failed, best job 3 (0.1234), ~2 min left`."""
        seconds = "" if row["seconds"] is None else f", {row['seconds']:,.0f} s"
        found = row["error"] or f"{row['monitor']} {number(row['val'])}"
        words = short(row, keys)
        return (
            f"job {row['job']} {state_of(row)}: {f'{words}, ' if words else ''}{found}{seconds}; {self.summary(rows)}"
        )

    def table(self) -> "Table":
        """Running jobs with their epochs, and the latest that ended."""
        from rich.table import Table

        rows, running = self._rows(), self.folder.running()
        keys = self.keys or varying([*rows, *(facts["row"] for facts in running.values())])
        table = Table(title=self.summary(rows), title_justify="left", title_style="bold")
        for column in ("job", "settings", "state", "epoch", "validation", "seconds"):
            table.add_column(column, justify="left" if column in ("settings", "state") else "right")
        for row in [row for row in rows if self._ended_now(row)][-LATEST:]:
            told = number(row["val"]) if row["error"] is None else str(row["error"])[:40]
            seconds = "" if row["seconds"] is None else f"{row['seconds']:,.0f}"
            table.add_row(str(row["job"]), short(row, keys), state_of(row), "", told, seconds)
        for job, facts in running.items():
            epoch, value = progress(facts["row"])
            took = f"{time.time() - facts.get('began', time.time()):,.0f}"
            table.add_row(str(job), short(facts["row"], keys), "running", epoch, value, took)
        return table

    def summary(self, rows: Sequence[Row]) -> str:
        """`5 of 12 ended, 1 failed, 2 running, best job 3 (0.1234), ~4 min left`."""
        asked = [row for row in rows if self._asked(row) and (not row["error"] or self._ended_now(row))]
        total = "" if self.launch.numbers is None else f" of {len(set(self.launch.numbers))}"
        told = [f"{len(asked)}{total} ended"]
        if failed := sum(bool(row["error"]) for row in asked):
            told.append(f"{failed} failed")
        if running := len(self.folder.running()):
            told.append(f"{running} running")
        best = best_of([row for row in rows if self._asked(row)], monitors_of(rows))
        if best is not None:
            told.append(f"best job {best['job']} ({number(best['val'])})")
        left = self._left(asked)
        return ", ".join([*told, *([left] if left else [])])

    def _left(self, ended: Sequence[Row]) -> str | None:
        """Time until the end, as the jobs that ended since this start went."""
        if self.launch.numbers is None:
            return None
        left = len(set(self.launch.numbers)) - len(ended)
        count = sum(self._ended_now(row) for row in ended)
        return f"~{_duration(left * (time.time() - self.began) / count)} left" if count and left > 0 else None

    def _rows(self) -> list[Row]:
        return self.folder.rows() if self.folder.jobs_jsonl.is_file() else []

    def _asked(self, row: Row) -> bool:
        return self.launch.numbers is None or row["job"] in self.launch.numbers

    def _ended_now(self, row: Row) -> bool:
        return self.earlier.get(row["job"]) != row and self._asked(row)


def progress(row: Row) -> tuple[str, str]:
    """The epoch that a running job is past, and the validation metric there."""
    if not row["run_dir"]:
        return "", ""
    try:
        found: list[dict[str, Any]] = read_rows(RunFolder(Path(row["run_dir"])).metrics_jsonl)
    except Exception:  # being written: at the next look
        return "", ""
    if not found:
        return "", ""
    last = found[-1]
    value = next((last[name] for name in ("ndcg@10", "auc", "loss") if name in last), None)
    return f"{last['epoch']}", number(value)


def _jobs(count: int) -> str:
    return f"{count} job{'s' * (count != 1)}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
