"""Bad input of a script of the pages: one line and exit code 2."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from scripts import scaling_ladder, scaling_law
from scripts.refusing import exit_code


@pytest.mark.parametrize(
    ("script", "words", "told"),
    [
        (scaling_law, ["{folder}"], "holds no run"),
        (scaling_ladder, ["--models", "foo", "--flops", "1e8", "--dims", "16", "--blocks", "1"], "no such name"),
    ],
)
def test_a_fault_is_one_line(
    script: ModuleType,
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *(word.format(folder=tmp_path) for word in words)])
    assert exit_code(script.main) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_a_script_that_is_done_ends_with_0() -> None:
    assert exit_code(lambda: None) == 0
