"""One part of the GPU check, in its process: `python -m scripts.gpu_parts sasrec --device cuda --results FILE`.

Each result is a line of JSON in FILE, written as soon as it is there. Exit code 3: the part is left out here.
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

ROOT = Path(__file__).resolve().parents[1]
Result = dict[str, Any]
LEFT_OUT = 3


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
    with asked.results.open("a", encoding="utf-8") as file:
        for result in PARTS[asked.part](device, asked.tiny):
            file.write(json.dumps(result) + "\n")
            file.flush()
            wrong += not result.get("ok", True)
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


def _environment(device: Any, tiny: bool) -> Iterator[Result]:
    from seqrec_cli.reporting.environment import environment

    yield {"name": "environment", **json.loads(json.dumps(environment(device), default=str))}


def _cases(device: Any, tiny: bool) -> Iterator[Result]:
    from scripts.gpu_cases import cases

    for name, work in cases(device, tiny):
        yield tried(name, work)


def _figures(which: str) -> Callable[[Any, bool], Iterator[Result]]:
    def run(device: Any, tiny: bool) -> Iterator[Result]:
        from scripts import gpu_figures

        for name, work in getattr(gpu_figures, which)(device, tiny):
            yield tried(name, work)

    return run


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


PARTS: dict[str, Callable[[Any, bool], Iterator[Result]]] = {
    "environment": _environment,
    "cases": _cases,
    **{name: _figures(name) for name in ("bert4rec", "sasrec", "clicks", "scoring", "plan", "formats")},
}

if __name__ == "__main__":
    sys.exit(main())
