"""The parts of scripts/gpu_check.sh, each in a process of its own with its own limit, and one JSON file of what they
found. That file is written anew after every part, and a part's process writes down each result as soon as it has it: a
part that fails, or hangs and is ended, loses what it had left to do and nothing else.

A part whose time is up while its results still come is `cut short`: what it found stands, and nothing is wrong. One
that was at the same thing for a minute, or for all of its time, is `hung`, and that is wrong.
"""

import argparse
import contextlib
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
# Seconds that each may take, in their order, what is most worth knowing first; and what those before it have left over.
LIMITS = {
    "environment": 50,
    "kernels": 75,
    "cases": 100,
    "bert4rec": 30,
    "sasrec": 60,
    "clicks": 40,
    "plan": 30,
    "formats": 35,
    "scoring": 25,
    "compiled": 85,
    "pytest": 70,
}
OF_DATA = 75  # more for `formats`, with a log to train on
IN_ALL = 345  # for all parts: where these add up to more, each has as much less in proportion
READ_S = 60  # for a log to be read
STUCK = 60  # seconds at the same thing, after which a part that is ended hung
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
        "--data",
        type=Path,
        metavar="FILE",
        help="a log for `formats`: sequences, a line `user item` an event, as of ml-1m.txt",
    )
    parser.add_argument(
        "--seconds", type=float, help="for all parts together, in proportion (default: what they may take, 345 at most)"
    )
    asked = parser.parse_args(argv)
    asked.parts = [name for name in asked.parts.split(",") if name]
    if not asked.parts:
        parser.error(f"--parts: names none (have: {', '.join(LIMITS)})")
    if asked.device != "cpu" and not asked.device.startswith("cuda"):
        parser.error(f"--device {asked.device}: give cuda, cuda:N or cpu")
    if unknown := [name for name in asked.parts if name not in LIMITS]:
        parser.error(f"--parts: no such part: {', '.join(unknown)} (have: {', '.join(LIMITS)})")
    if asked.seconds is not None and not asked.seconds > 0:
        parser.error(f"--seconds: {asked.seconds:g} is no time; give a number above 0")
    limits = {name: LIMITS[name] + (OF_DATA if name == "formats" and asked.data else 0) for name in asked.parts}
    asked.seconds = asked.seconds or min(sum(limits.values()), IN_ALL)
    asked.limits = {name: limit * asked.seconds / sum(limits.values()) for name, limit in limits.items()}
    return asked


def main(argv: Sequence[str] | None = None, python: Sequence[str] = (sys.executable,)) -> int:
    """0: nothing is wrong, and a line says what there was no time for; 1: something failed or hung; 2: it cannot run
    here, and one line says why."""
    began, asked = time.monotonic(), arguments(sys.argv[1:] if argv is None else argv)
    if gone := missing():
        print(f"gpu_check: missing here: {', '.join(gone)}; install them (pip install {' '.join(gone)})")
        return 2
    if not asked.json.absolute().parent.is_dir():
        print(f"gpu_check: --json {asked.json}: no such folder; make it first")
        return 2
    if asked.json.is_dir():
        print(f"gpu_check: --json {asked.json}: a folder; name a file in it")
        return 2
    if asked.data is not None and (wrong := _wrong_data(asked.data, python)):
        print(f"gpu_check: --data {asked.data}: {wrong}")
        return 2
    found: dict[str, Any] = {"device": asked.device, "tiny": asked.tiny, "parts": {}}
    for nth, name in enumerate(asked.parts):
        left = asked.seconds - (time.monotonic() - began)
        later = sum(asked.limits[other] for other in asked.parts[nth + 1 :])
        limit = min(max(asked.limits[name], left - later), left)
        found["parts"][name] = part = _part(name, asked, limit=limit, python=python)
        found["seconds"] = round(time.monotonic() - began, 1)
        _write(asked.json, found)
        wrong = sum(not result.get("ok", True) for result in part["results"])
        print(
            f"{name:12} {part['status']:9} {part['seconds']:6.1f} s  {len(part['results'])} results"
            + (f", {wrong} wrong" if wrong else "")
            + (f"  {part['message']}" if part["message"] else ""),
            flush=True,
        )
        if name == "environment" and part["status"] in ("failed", "hung"):  # without the device nothing else can be
            print(f"gpu_check: {part['message']}")
            return 2
    found["unfinished"] = [name for name, part in found["parts"].items() if part["status"] == "cut short"]
    found["ok"] = all(
        part["status"] in ("done", "left out", "cut short")
        and all(result.get("ok", True) for result in part["results"])
        for part in found["parts"].values()
    )
    _write(asked.json, found)
    if found["unfinished"]:
        print(f"not finished, for want of time: {', '.join(found['unfinished'])}; --parts runs them alone")
    print(f"{asked.json}: {found['seconds']} s")
    return 0 if found["ok"] else 1


def quoted(path: Path) -> str:
    """A file's place as the value of an override."""
    text = str(path.absolute()).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def _wrong_data(file: Path, python: Sequence[str]) -> str:
    """Why a log cannot be trained on, as `seqrec preprocess` says it before any part has begun; empty where it can."""
    if not file.is_file():
        return "a folder, not a file" if file.is_dir() else "no such file"
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        words = [f"dataset.archive={quoted(file)}", f"data_dir={quoted(Path(folder) / 'data')}"]
        code = _waited_for([*python, "-m", "seqrec_cli", "preprocess", "dataset=sequences", *words], said, READ_S)
        lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "" if code == 0 else (lines or [f"not read within {READ_S} s"])[-1].removeprefix("seqrec preprocess: ")


def _part(name: str, asked: argparse.Namespace, *, limit: float, python: Sequence[str]) -> dict[str, Any]:
    """One part's results, whatever becomes of its process."""
    part: dict[str, Any] = {"status": "cut short", "seconds": 0.0, "message": "no time left", "results": []}
    if limit <= 1:
        return part
    with tempfile.TemporaryDirectory() as folder:
        told, said = Path(folder) / "results.jsonl", Path(folder) / "output.txt"
        words = [*python, "-m", "scripts.gpu_parts", name, "--device", asked.device, "--results", str(told)]
        words += ["--seconds", f"{limit:.1f}", *(["--tiny"] if asked.tiny else [])]
        words += [] if asked.data is None else ["--data", str(asked.data.absolute())]
        told.touch()
        began, code, results = time.monotonic(), BROKEN, -1
        # As long as that leads on: its device, or the process itself, broke at one thing, and the others are left.
        while code is not None and (code == BROKEN or code < 0) and len(read_results(told)) > results:
            results = len(read_results(told))
            code = _waited_for(words, said, limit - (time.monotonic() - began))
            if code is not None and code < 0:
                _add_crash(told, code)
        part["seconds"] = round(time.monotonic() - began, 1)
        part |= {"results": read_results(told), "message": ""}
        if code is None:
            at = at_file(told).read_text(encoding="utf-8") if at_file(told).is_file() else "its start"
            quiet = time.time() - told.stat().st_mtime
            part["status"] = "hung" if quiet >= min(STUCK, 0.9 * asked.limits[name]) else "cut short"
            part["message"] = f"ended after {limit:.0f} s, {quiet:.0f} s of them at {at}"
        else:
            part["status"] = {0: "done", LEFT_OUT: "left out"}.get(code, "failed")
        if part["status"] in ("failed", "left out"):
            lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            part["message"] = lines[-1] if lines else f"exit code {code}"
            part["output"] = lines[-30:]
    return part


def at_file(results: Path) -> Path:
    """Where a part says what it is at."""
    return results.with_name(results.name + ".at")


def _add_crash(told: Path, code: int) -> None:
    """A result for what the process was at when it was ended from outside, or ended itself."""
    name = at_file(told).read_text(encoding="utf-8") if at_file(told).is_file() else None
    if name is not None and all(result["name"] != name for result in read_results(told)):
        result = {"name": name, "ok": False, "error": f"the process ended at this: {signal.Signals(-code).name}"}
        with told.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(result) + "\n")


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
    """The whole lines of a file: one may have been cut where its process ended."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
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
