"""Starting a sweep's job as a process of its own, waiting for it, and telling how it ended."""

import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from filelock import FileLock, Timeout

from seqrec_cli.config.compose import PACKAGE
from seqrec_cli.reporting.sweep_folder import Row, SweepFolder

# The package is found where this process has it, whether installed or beside the working directory.
START = (
    "import sys; sys.path.append(sys.argv.pop(1)); from seqrec_cli.commands.sweep_child import main; sys.exit(main())"
)
PATIENCE = 120  # seconds that an interrupted job has to save and exit


def run_child(folder: SweepFolder, row: Row, facts: dict[str, Any], *, environment: Mapping[str, str]) -> Row:
    """Run a job in a child process; its row, with how it ended. Ctrl-C is handed on, and the job saves and exits."""
    folder.logs.mkdir(parents=True, exist_ok=True)
    log = folder.path / str(row["log"])
    description = folder.begin(row["job"], facts | {"row": row, "host": socket.gethostname()})
    command = [sys.executable, "-c", START, str(PACKAGE.parent), str(description), str(folder.result(row["job"]))]
    with log.open("ab") as file:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT, env=dict(environment),
            start_new_session=True,
        )  # fmt: skip
    assert child.stdin is not None
    interrupted = False
    try:
        code = child.wait()
    except KeyboardInterrupt:
        interrupted = True
        child.stdin.close()  # its lifeline
        try:
            code = child.wait(timeout=PATIENCE)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            child.kill()
            code = child.wait()
    finally:
        child.stdin.close()
    found = folder.read_result(row["job"])
    if interrupted and found is None:
        return row | {"state": "interrupted", "error": "interrupted"}
    return ended(row, found, code)


def ended(row: Row, found: dict[str, Any] | None, code: int | None) -> Row:
    """The row of a job whose process ended with an exit code, or out of sight (None), and said `found`."""
    if found is not None:
        bug = found.pop("bug", False)
        row = row | found
        return row | {"error": f"{row['error']} (traceback in {row['log']})"} if bug else row
    if code is not None and code < 0:
        return row | {"state": "killed", "error": f"killed by {_signal(-code)}"}
    if code is None:
        return row | {"state": "killed", "error": "its process ended out of sight: killed together with its sweep"}
    return row | {"state": "failed", "error": f"its process ended with exit code {code} and no word (see {row['log']})"}


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    often = "; the system does so where memory runs out" if name == "SIGKILL" else ""
    return f"signal {number} ({name}{often})"


def settle_left_over(folder: SweepFolder, patience: float = PATIENCE, *, stopped: bool = False) -> list[Row]:
    """Write the rows of jobs whose end nobody saw, for the process that waited for them is gone; those rows.

    A job that still saves is waited for; one that goes on after that, on another machine, is left alone. `stopped`: the
    sweep itself was just interrupted, and they with it. Called by who holds the sweep's lock.
    """
    rows = []
    for job, facts in folder.running().items():
        lock = FileLock(folder.alive(job), timeout=patience)
        try:
            with lock:
                found = folder.read_result(job)
                row = ended(facts["row"], found, None)
                if stopped and found is None:
                    row |= {"state": "interrupted", "error": "interrupted before it had anything to save"}
        except Timeout:
            continue
        folder.end(row)
        rows.append(row)
    return rows
