"""The parts of scripts/gpu_check.sh, each in a process of its own with its own limit, and one JSON file of what they
found. That file is written anew after every part, and a part's process writes down each result as soon as it has it: a
part that fails, or hangs and is ended, loses what it had left to do and nothing else.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NEEDED = {  # what is imported: the package that has it
    "torch": "torch",
    "numpy": "numpy",
    "hydra": "hydra-core",
    "omegaconf": "omegaconf",
    "pydantic": "pydantic",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "filelock": "filelock",
    "rich": "rich",
}
# Seconds that each may take at most, in their order: what is most worth knowing comes first.
LIMITS = {
    "environment": 30,
    "cases": 110,
    "bert4rec": 30,
    "sasrec": 60,
    "clicks": 45,
    "scoring": 30,
    "plan": 40,
    "formats": 40,
    "pytest": 60,
}
IN_ALL = 345  # seconds: a part that would begin later is left out, and said to be
LEFT_OUT, BROKEN = 3, 4  # exit codes of a part: not here; to be begun again
GRACE = 5  # seconds between being asked to end and being ended


def missing() -> list[str]:
    """The packages that are not here."""
    return [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpu_check", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, and one objective a model")
    parser.add_argument("--parts", default=",".join(LIMITS), help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=Path("gpu_check.json"), help="default: %(default)s")
    parser.add_argument(
        "--seconds",
        type=float,
        default=IN_ALL,
        help="for all parts together, each part's in proportion (default: %(default)s)",
    )
    asked = parser.parse_args(argv)
    asked.parts = [name for name in asked.parts.split(",") if name]
    if unknown := [name for name in asked.parts if name not in LIMITS]:
        parser.error(f"--parts: no such part: {', '.join(unknown)} (have: {', '.join(LIMITS)})")
    return asked


def main(argv: Sequence[str] | None = None, python: Sequence[str] = (sys.executable,)) -> int:
    """0: all is well; 1: something failed, or took too long; 2: it cannot run here, and one line says why."""
    asked = arguments(sys.argv[1:] if argv is None else argv)
    if gone := missing():
        print(f"gpu_check: missing here: {', '.join(gone)}; install them (pip install {' '.join(gone)})")
        return 2
    if not asked.json.absolute().parent.is_dir():
        print(f"gpu_check: --json {asked.json}: no such folder; make it first")
        return 2
    began, found = time.monotonic(), {"device": asked.device, "tiny": asked.tiny, "parts": {}}
    for name in asked.parts:
        left = asked.seconds - (time.monotonic() - began)
        found["parts"][name] = part = _part(name, asked, left=left, python=python)
        found["seconds"] = round(time.monotonic() - began, 1)
        _write(asked.json, found)
        wrong = sum(not result.get("ok", True) for result in part["results"])
        print(
            f"{name:12} {part['status']:9} {part['seconds']:6.1f} s  {len(part['results'])} results"
            + (f", {wrong} wrong" if wrong else "")
            + (f"  {part['message']}" if part["message"] else ""),
            flush=True,
        )
        if name == "environment" and part["status"] == "failed":  # without the device nothing else can be
            print(f"gpu_check: {part['message']}")
            return 2
    print(f"{asked.json}: {found['seconds']} s")
    well = all(
        part["status"] in ("done", "left out") and all(result.get("ok", True) for result in part["results"])
        for part in found["parts"].values()
    )
    return 0 if well else 1


def _part(name: str, asked: argparse.Namespace, *, left: float, python: Sequence[str]) -> dict[str, Any]:
    """One part's results, whatever becomes of its process."""
    part: dict[str, Any] = {"status": "left out", "seconds": 0.0, "message": "", "results": []}
    if left <= 1:
        return part | {"message": "no time left", "status": "timeout"}
    limit = min(LIMITS[name] * max(1.0, asked.seconds / IN_ALL), left)
    with tempfile.TemporaryDirectory() as folder:
        told, said = Path(folder) / "results.jsonl", Path(folder) / "output.txt"
        words = [*python, "-m", "scripts.gpu_parts", name, "--device", asked.device, "--results", str(told)]
        words += ["--tiny"] if asked.tiny else []
        began, code, results = time.monotonic(), BROKEN, -1
        while code == BROKEN and len(read_results(told)) > results:  # as long as that leads on
            results = len(read_results(told))
            code = _waited_for(words, said, limit - (time.monotonic() - began))
        part["seconds"] = round(time.monotonic() - began, 1)
        part["results"] = read_results(told)
        if code is None:
            part |= {"status": "timeout", "message": f"ended after {limit:.0f} s"}
        else:
            part["status"] = {0: "done", LEFT_OUT: "left out"}.get(code, "failed")
        if part["status"] in ("failed", "left out"):
            lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            part["message"] = lines[-1] if lines else f"exit code {code}"
            part["output"] = lines[-30:]
    return part


def _waited_for(words: list[str], said: Path, limit: float) -> int | None:
    """A process's exit code, or None where it was ended."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with said.open("w") as output:
        process = subprocess.Popen(
            words, stdout=output, stderr=output, start_new_session=True, env={**os.environ, "PYTHONPATH": path}
        )
        try:
            return process.wait(max(limit, 0.1))
        except subprocess.TimeoutExpired:
            _end(process)
            return None


def read_results(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file: the last one may have been cut."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _write(path: Path, found: dict[str, Any]) -> None:
    """So that the file is whole at every moment."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(found, indent=1), encoding="utf-8")
    beside.replace(path)


if __name__ == "__main__":
    sys.exit(main())
