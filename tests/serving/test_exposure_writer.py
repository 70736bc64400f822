"""Lines of an experiment's log are whole, whoever writes beside them and whenever a writer is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.exposure_log import EXPOSURE, PLAN, line, read_log
from seqrec_cli.serving.exposure_writer import ExposureWriter

ROOT = Path(__file__).resolve().parents[2]
PLAN_FACTS: dict[str, Any] = {"plan": "p", "arms": ["old", "new"], "shares": [0.5, 0.5], "salt": "s"}
WRITES = """
import sys
from seqrec_cli.serving.exposure_writer import ExposureWriter
log, name, lines, long = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
writer = ExposureWriter(log)
writer.write("plan", plan="p", arms=["old", "new"], shares=[0.5, 0.5], salt="s")
print("ready", flush=True)
sys.stdin.readline()
for number in range(lines):
    items = list(range(long * (number % 2) + 3))
    writer.write("exposure", id=f"{name}-{number}", plan="p", user=f"{name}{number % 7}", arm="old", items=items)
    print(number, flush=True) if lines > 100_000 else None
writer.close()
"""


def writing(log: Path, name: str, lines: int, *, long: int = 0) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-c", WRITES, str(log), name, str(lines), str(long)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("log", ["one.jsonl", "folder"])
def test_several_processes_lose_no_line(tmp_path: Path, log: str) -> None:
    writers = [writing(tmp_path / log, name, 2_000, long=2_000) for name in "abc"]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    assert [writer.wait(timeout=100) for writer in writers] == [0] * 3
    found = read_log(tmp_path / log)
    assert found.files == (1 if log == "one.jsonl" else 3)
    assert (found.exposures_U.sum(), len(found.arm_U)) == (6_000, 21)
    assert vars(found.left_out) == dict.fromkeys(vars(found.left_out), 0)


def test_a_killed_process_loses_its_last_line_at_most(tmp_path: Path) -> None:
    log = tmp_path / "one.jsonl"
    killed, other = writing(log, "a", 10**9, long=2_000), writing(log, "b", 3_000)
    for writer in (killed, other):
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    assert killed.stdout is not None
    told, until = 0, time.monotonic() + 100
    while log.stat().st_size < 2_000_000 and time.monotonic() < until:
        told = max([told, *map(int, os.read(killed.stdout.fileno(), 1 << 20).split())])
    killed.send_signal(signal.SIGKILL)
    for part in killed.stdout:  # what it had said to be written; of a number that is cut a smaller one is left
        told = max([told, *map(int, part.split())])
    killed.wait()
    assert other.wait(timeout=100) == 0
    found = read_log(log)
    assert told > 0
    assert found.exposures_U.sum() >= told + 1 + 3_000
    assert found.left_out.torn <= 1
    assert len(found.arm_U) == 14


def test_a_disk_that_takes_a_part_of_a_line_gets_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, write, calls = ExposureWriter(str(tmp_path / "a.jsonl")), os.write, []

    def short(file: int, text: bytes) -> int:
        calls.append(text)
        return write(file, text[:30]) if len(calls) == 2 else write(file, text)

    monkeypatch.setattr(os, "write", short)
    writer.write(PLAN, **PLAN_FACTS)
    for number in (1, 2):
        writer.write(EXPOSURE, id=f"e{number}", plan="p", user="u", arm="old", items=[1])
    monkeypatch.undo()
    found = read_log(writer.path)
    assert (found.exposures_U.tolist(), found.left_out.torn) == ([2], 1)
    assert len(calls) == 4
    monkeypatch.setattr(os, "write", lambda file, text: 5)
    with pytest.raises(OSError, match="not written to its end"):
        writer.write(EXPOSURE, id="e3")


def test_the_end_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    writer = ExposureWriter(str(tmp_path / "new" / "folder"))
    assert writer.path.parent == tmp_path / "new" / "folder"
    writer.close()
    assert len(synced) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        writer.write(PLAN, **PLAN_FACTS)


def test_what_is_no_log_is_not_written_to(tmp_path: Path) -> None:
    mine = tmp_path / "notes.txt"
    mine.write_text("to do\n")
    with pytest.raises(SeqrecError, match=r"notes.txt: this file is no log of an online experiment; give another"):
        ExposureWriter(str(mine))
    assert mine.read_text() == "to do\n"
    with pytest.raises(SeqrecError, match=r"log=.*notes.txt/x: Not a directory; give another file or folder"):
        ExposureWriter(str(mine / "x"))
    begun = tmp_path / "begun.jsonl"
    begun.write_bytes(line(PLAN, 0.0, **PLAN_FACTS))
    writer = ExposureWriter(str(begun))  # a service that begins again goes on in the file
    writer.write(EXPOSURE, id="e1", plan="p", user="u", arm="new", items=[1])
    assert read_log(begun).arms == ("old", "new")
