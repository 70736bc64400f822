"""One part of the GPU check, in its process: `python -m scripts.gpu_parts sasrec --device cuda --results FILE`.

Each result is a line of JSON in FILE, written as soon as it is there; FILE.at says what it is at. Exit code 3: the part
is left out here. 4: an error of the device's own (an illegal address, say), after which a process can do nothing more
with it: call it again, and what has its result already is passed over.
"""

import argparse
import importlib
import importlib.util
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.gpu_check import BROKEN, LEFT_OUT, at_file, read_results

ROOT = Path(__file__).resolve().parents[1]
Result = dict[str, Any]
Work = tuple[str, Callable[[], Result]]
# Where each part's function of the same name is.
MODULES = {
    "kernels": "gpu_kernels",
    "cases": "gpu_cases",
    **dict.fromkeys(("bert4rec", "sasrec", "clicks", "compiled"), "gpu_rates"),
    "plan": "gpu_plan",
    "formats": "gpu_formats",
    "scoring": "gpu_scoring",
}


@dataclass(frozen=True)
class Asked:
    """What a part is to do."""

    device: Any  # torch.device
    tiny: bool
    data: Path | None  # a file of sequences for `formats`
    seconds: float  # that the part has


def main() -> int:
    """Run the part named first."""
    parser = argparse.ArgumentParser(prog="gpu_parts")
    parser.add_argument("part")
    parser.add_argument("--device", required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))  # the toy log, which the tests share
    if given.part == "pytest":
        return run_pytest(given.results, CUDA_TESTS)
    import torch

    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(f"no CUDA device is here: torch {torch.__version__} sees none; --device cpu --tiny tries the script out")
        return 1
    wrong = 0
    known = {result["name"] for result in read_results(given.results)}
    asked = Asked(device, given.tiny, given.data, given.seconds)
    with given.results.open("a", encoding="utf-8") as file:
        for name, work in works(given.part, asked):
            if name in known:
                continue
            at_file(given.results).write_text(name, encoding="utf-8")
            result = tried(name, work)
            file.write(json.dumps(result) + "\n")
            file.flush()
            wrong += not result["ok"]
            if broke(result.get("error", "")):
                print(result["error"])
                return BROKEN
    if wrong:
        print(f"{wrong} wrong")
    return 1 if wrong else 0


def broke(error: str) -> bool:
    """Whether the process can do no more with its device after this error."""
    return "CUDA error" in error or "Triton Error [CUDA]" in error


def works(part: str, asked: Asked) -> Iterator[Work]:
    """What a part has to do."""
    if part == "environment":
        yield from _environment(asked)
        return
    function = getattr(importlib.import_module(f"scripts.{MODULES[part]}"), part)
    more = (asked.data, asked.seconds) if part == "formats" else ()
    yield from function(asked.device, asked.tiny, *more)


def tried(name: str, work: Callable[[], Result]) -> Result:
    """What `work` gives, or what went wrong in it; and its seconds."""
    began = time.perf_counter()
    try:
        found = {"name": name, "ok": True, **work()}
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        words = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
        found = {"name": name, "ok": False, "error": f"{type(error).__name__}: {words[:300]} ({at.name}:{at.lineno})"}
    return found | {"seconds": round(time.perf_counter() - began, 3)}


def _environment(asked: Asked) -> Iterator[Work]:
    from seqrec_cli.reporting.environment import environment

    yield "environment", lambda: json.loads(json.dumps(environment(asked.device), default=str))


CUDA_TESTS = ("tests/training/test_cuda.py", "tests/kernels/test_triton_cuda.py")


class Recorder:
    """A plugin of pytest: writes each test's result down as it ends. What has its result already is not run again,
    compilers' tests, the longest ones, come last, and an error of the device's own ends the session."""

    def __init__(self, results: Path) -> None:
        self.results, self.known = results, {result["name"] for result in read_results(results)}
        self.broke = False

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid not in self.known), key=lambda item: "compiled" in item.name
        )

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        at_file(self.results).write_text(nodeid, encoding="utf-8")

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        if call.excinfo is not None and broke(str(call.excinfo.value)):
            self.broke, item.session.shouldstop = True, "the device is broken"

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or not report.passed:  # of setup and teardown only what went wrong, or was skipped
            result: Result = {"name": report.nodeid, "ok": not report.failed, "seconds": round(report.duration, 3)}
            if report.failed:
                result["error"] = str(report.longrepr).strip()[-600:]
            elif report.skipped:
                result["left_out"] = "skipped"
            with self.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")


def run_pytest(results: Path, tests: tuple[str, ...]) -> int:
    """The tests for CUDA, where pytest is."""
    if importlib.util.find_spec("pytest") is None:
        print(f"pytest is not here: {' and '.join(tests)} are left out")
        return LEFT_OUT
    import pytest

    os.chdir(ROOT)
    recorder = Recorder(results)
    code = int(pytest.main(["-q", "-p", "no:cacheprovider", *tests], plugins=[recorder]))
    if recorder.broke:
        return BROKEN
    wrong = sum(not result["ok"] for result in read_results(results))
    if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED, pytest.ExitCode.TESTS_FAILED):
        print(f"{wrong} wrong")
        return 1 if wrong else 0
    return code


if __name__ == "__main__":
    sys.exit(main())
