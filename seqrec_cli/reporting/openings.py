"""How often a test set was opened: every reading is written down, in the run's manifest and beside the packed logs.

A test set that has been read often is slowly chosen by, even where every run chose by validation. `test_openings.jsonl`
in the data folder has a line a reading, under the fingerprint of dataset and protocol; lines are only ever added.
All seeds of one configuration are one opening: they share its name.
"""

import contextlib
import json
import secrets
from datetime import datetime
from pathlib import Path

from filelock import FileLock

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.reporting.run_folder import RunFolder

LEDGER = "test_openings.jsonl"
WAIT_SECONDS = 30  # for other runs' lines


def new_opening() -> str:
    """A name that no other opening has."""
    return secrets.token_hex(8)


def count_opening(log: PackedLog, by: str, *, opening: str, run: RunFolder | None) -> int | None:
    """Write down that a test set is read, before it is; how often it has been under this protocol, this time included.

    `by` is the verb, `run` the folder of the run that is measured (None: a checkpoint without one). None where the
    data's folder cannot be written, or the log lies in memory.
    """
    at = datetime.now().astimezone().isoformat(timespec="seconds")
    if run is not None and run.manifest.is_file():
        with contextlib.suppress(OSError):  # a folder that may only be read: the ledger below still counts
            known = run.read_manifest().get("test_openings", [])
            run.write_manifest({"test_openings": [*known, {"at": at, "by": by, "opening": opening}]})
    if log.folder is None:
        return None
    line = {"fingerprint": log.fingerprint, "opening": opening, "at": at, "by": by}
    if run is not None:
        line["run"] = str(run.path.resolve())
    ledger = log.folder.parent / LEDGER
    try:
        with FileLock(f"{ledger}.lock", timeout=WAIT_SECONDS):
            with ledger.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            return openings(ledger, log.fingerprint)
    except OSError:
        return None


def openings(ledger: Path, fingerprint: str) -> int:
    """How many openings a ledger has of a test set."""
    if not ledger.is_file():
        return 0
    names = set()
    for line in ledger.read_bytes().splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a line that a full disk cut
            entry = json.loads(line)
            if entry["fingerprint"] == fingerprint:
                names.add(entry["opening"])
    return len(names)


def opened_words(times: int | None) -> str:
    """What stands beside a number of a test set."""
    if times is None:
        return "this opening of the test set could not be counted (the data folder cannot be written)"
    return f"test opened {times} {'time' if times == 1 else 'times'} under this protocol on this machine's data folder"
