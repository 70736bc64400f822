"""scripts/gpu_check.sh from end to end at toy sizes on the CPU: the same parts as on a GPU."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import gpu_check, gpu_parts
from scripts.gpu_log import made_log

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def found(python: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("gpu") / "gpu.json"
    words = ["--device", "cpu", "--tiny", "--json", str(file), "--seconds", "3000"]
    parts = [name for name in gpu_check.LIMITS if name != "pytest"]  # which would be this very suite's
    assert gpu_check.main([*words, "--parts", ",".join(parts)], python) == 0, file.read_text()
    read: dict[str, Any] = json.loads(file.read_text())
    return read


def test_every_part_is_done_and_has_figures(found: dict[str, Any]) -> None:
    assert found["tiny"]
    assert found["device"] == "cpu"
    for name, part in found["parts"].items():
        assert part["status"] == "done", part
        assert part["results"], name
        assert all(result.get("ok", True) for result in part["results"])
    steps = [r["name"] for r in found["parts"]["cases"]["results"] if r["name"].startswith("step")]
    assert "step din click" in steps
    for name in ("sasrec", "clicks"):
        for result in found["parts"][name]["results"]:
            assert result["targets_a_second"] > 0
            assert result["flops_a_second"] > 0
    assert found["parts"]["plan"]["results"][0]["planned_bytes"] > 1000
    assert found["parts"]["scoring"]["results"][0]["requests"] == 64


def test_a_case_that_fails_is_told_and_loses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from scripts import gpu_cases

    result = gpu_parts.tried("step", lambda: gpu_cases._near("loss", 1.0, 1.1, 1e-3))  # type: ignore[func-returns-value, arg-type, return-value]
    assert not result["ok"]
    assert result["error"].startswith("AssertionError: loss is 1, on the CPU 1.1")
    assert gpu_parts.tried("step", lambda: {"loss": 1.0})["ok"]


def python_that(words: str) -> list[str]:
    return [sys.executable, "-c", words]


def test_a_part_that_hangs_or_breaks_loses_only_what_it_had_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    acting = """
import sys, time
part, file = sys.argv[3], sys.argv[sys.argv.index("--results") + 1]
open(file, "w").write('{"name": "first", "ok": true}\\n{"name": "cut o')
if part == "sasrec": time.sleep(600)
if part == "clicks": sys.exit("it broke")
"""
    monkeypatch.setattr(gpu_check, "LIMITS", {"bert4rec": 60, "sasrec": 2, "clicks": 60, "plan": 60})
    file = tmp_path / "gpu.json"
    code = gpu_check.main(
        ["--json", str(file), "--parts", "bert4rec,sasrec,clicks,plan"], [*python_that(acting), "-m"][:3]
    )
    read = json.loads(file.read_text())["parts"]
    assert code == 1
    assert [read[name]["status"] for name in read] == ["done", "timeout", "failed", "done"]
    assert all(part["results"] == [{"name": "first", "ok": True}] for part in read.values())
    assert read["clicks"]["message"] == "it broke"
    assert "ended after 2 s" in capsys.readouterr().out


def test_a_part_whose_device_broke_is_begun_again_and_passes_over_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "results.jsonl"

    def works(device: Any, tiny: bool) -> Any:
        def breaks() -> Any:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        return iter([("first", dict), ("second", breaks), ("third", dict)])

    monkeypatch.setattr(gpu_parts, "PARTS", {"cases": works})
    monkeypatch.setattr(sys, "argv", ["gpu_parts", "cases", "--device", "cpu", "--results", str(file)])
    assert gpu_parts.main() == gpu_check.BROKEN
    assert gpu_parts.main() == 0
    found = gpu_check.read_results(file)
    assert [(each["name"], each["ok"]) for each in found] == [("first", True), ("second", False), ("third", True)]


def test_what_is_missing_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(gpu_check.NEEDED, "no_such_module", "no-such-package")
    assert gpu_check.main([]) == 2
    assert capsys.readouterr().out == (
        "gpu_check: missing here: no-such-package; install them (pip install no-such-package)\n"
    )


def test_the_header_names_every_package_that_is_needed() -> None:
    header = (ROOT / "scripts" / "gpu_check.sh").read_text()
    for package in gpu_check.NEEDED.values():
        assert package in header.replace("\n", " ")
    assert sum(gpu_check.LIMITS.values()) > gpu_check.IN_ALL  # whatever the parts take, the whole ends in time
    assert gpu_check.IN_ALL + gpu_check.GRACE < 360


def test_a_part_without_pytest_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_parts.importlib.util, "find_spec", lambda name: None)
    assert gpu_parts._pytest(tmp_path / "results.jsonl") == gpu_parts.LEFT_OUT


def test_the_shell_script_says_what_is_wrong_with_its_words() -> None:
    words = ["sh", str(ROOT / "scripts" / "gpu_check.sh"), "--parts", "sasrek"]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={"PYTHON": sys.executable, "PATH": "/bin:/usr/bin"}
    )
    assert done.returncode == 2
    assert "no such part: sasrek" in done.stderr


def test_a_made_log_can_be_learned_from() -> None:
    log = made_log(200, 50, 20, 60, click_negatives=2)
    same_user = [
        (a, b)
        for start, end in zip(log.offsets_U1[:-1], log.offsets_U1[1:], strict=True)
        for a, b in zip(log.items_N[start : end - 1], log.items_N[start + 1 : end], strict=True)
    ]
    follows = sum(b == a % 50 + 1 for a, b in same_user) / len(same_user)
    assert 0.55 < follows < 0.75
    assert log.items_N.min() >= 1
    assert log.items_N.max() <= 50
    assert log.clicks["test"].items_RC.shape == (200, 3)
