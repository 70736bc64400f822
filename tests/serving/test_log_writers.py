"""Services that write one log are told of each other."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.serving.log_writers import written_by_us


def _hold(log: str, plan: str, begun: Any, end: Any) -> None:
    with written_by_us(log, plan, lambda line: None):
        begun.set()
        end.wait(60)


@pytest.mark.parametrize("log", ["folder", "one.jsonl"])
def test_a_second_service_is_told_of_the_first_and_one_of_another_plan_is_refused(log: str, tmp_path: Path) -> None:
    spawn, path = multiprocessing.get_context("spawn"), str(tmp_path / "deep" / log)
    begun, end, told = spawn.Event(), spawn.Event(), list[str]()
    other = spawn.Process(target=_hold, args=(path, "plan a", begun, end))
    other.start()
    assert begun.wait(100)
    with written_by_us(path, "plan a", told.append):
        assert [f"the service of process {other.pid} on" in line and f"log={path} too" in line for line in told] == [1]
        assert "compare counts both as one experiment" in told[0]
    with (
        pytest.raises(SeqrecError, match=rf"log=.*process {other.pid} on .* writes there too, with other runs"),
        written_by_us(path, "plan b", told.append),
    ):
        raise AssertionError
    with written_by_us(str(tmp_path / "deep" / "another.jsonl"), "plan b", told.append):
        assert len(told) == 1
    other.kill()  # which leaves its lock file
    other.join()
    for plan in ("plan b", "plan c"):
        with written_by_us(path, plan, told.append):
            assert len(told) == 1
    left = [each.name for each in tmp_path.rglob("*") if each.is_file()]
    assert all(name.endswith(".lock") for name in left), left


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SeqrecError, match=r"log=.*: .*; give another file or folder"),
        written_by_us(str(tmp_path / "file" / "x"), "plan", print),
    ):
        raise AssertionError
    assert os.listdir(tmp_path) == ["file"]
