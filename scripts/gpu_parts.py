"""One part of the GPU check, in its process: `python -m scripts.gpu_parts sasrec --device cuda --results FILE`.

Each result is a line of JSON in FILE, written as soon as it is there. Exit code 3: the part is left out here. 4: an
error of the device's own (an illegal address, say), after which a process can do nothing more with it: call it again,
and what has its result already is passed over.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scripts.gpu_check import BROKEN, LEFT_OUT, read_results

ROOT = Path(__file__).resolve().parents[1]
Result = dict[str, Any]
Work = tuple[str, Callable[[], Result]]


def main() -> int:
    """Run the part named first."""
    parser = argparse.ArgumentParser(prog="gpu_parts")
    parser.add_argument("part")
    parser.add_argument("--device", required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))  # the toy log, which the tests share
    if asked.part == "pytest":
        return _pytest(asked.results)
    import torch

    device = torch.device(asked.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(f"no CUDA device is here: torch {torch.__version__} sees none; --device cpu --tiny tries the script out")
        return 1
    wrong = 0
    known = {result["name"] for result in read_results(asked.results)}
    with asked.results.open("a", encoding="utf-8") as file:
        for name, work in PARTS[asked.part](device, asked.tiny):
            if name in known:
                continue
            result = tried(name, work)
            file.write(json.dumps(result) + "\n")
            file.flush()
            wrong += not result["ok"]
            if "CUDA error" in result.get("error", ""):
                print(result["error"])
                return BROKEN
    if wrong:
        print(f"{wrong} wrong")
    return 1 if wrong else 0


def tried(name: str, work: Callable[[], Result]) -> Result:
    """What `work` gives, or what went wrong in it; and its seconds."""
    began = time.perf_counter()
    try:
        found = {"name": name, "ok": True, **work()}
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        words = (str(error).strip().splitlines() or [""])[0]
        found = {"name": name, "ok": False, "error": f"{type(error).__name__}: {words[:300]} ({at.name}:{at.lineno})"}
    return found | {"seconds": round(time.perf_counter() - began, 3)}


def _environment(device: Any, tiny: bool) -> Iterator[Work]:
    from seqrec_cli.reporting.environment import environment

    yield "environment", lambda: json.loads(json.dumps(environment(device), default=str))


def _cases(device: Any, tiny: bool) -> Iterator[Work]:
    from scripts.gpu_cases import cases

    yield from cases(device, tiny)


def _figures(which: str) -> Callable[[Any, bool], Iterator[Work]]:
    def works(device: Any, tiny: bool) -> Iterator[Work]:
        from scripts import gpu_figures

        yield from getattr(gpu_figures, which)(device, tiny)

    return works


def _pytest(results: Path) -> int:
    if importlib.util.find_spec("pytest") is None:
        print("pytest is not here: tests/training/test_cuda.py is left out")
        return LEFT_OUT
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/training/test_cuda.py"]
    done = subprocess.run(words, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    result = {
        "name": "tests/training/test_cuda.py",
        "ok": done.returncode == 0,
        "last_line": lines[-1] if lines else "",
    }
    results.write_text(json.dumps(result) + "\n", encoding="utf-8")
    print("\n".join(lines[-20:]))
    return done.returncode


PARTS: dict[str, Callable[[Any, bool], Iterator[Work]]] = {
    "environment": _environment,
    "cases": _cases,
    **{name: _figures(name) for name in ("bert4rec", "sasrec", "clicks", "scoring", "plan", "formats")},
}

if __name__ == "__main__":
    sys.exit(main())
