"""Seconds and peak memory of `seqrec preprocess`, each run a fresh process in a fresh data folder.

    python -m scripts.bench_preprocess dataset=ml-1m dataset.archive=PATH [--runs 3] [--json FILE]

Seconds are wall time of the whole process, its start included; memory is the largest resident set of that process
as the kernel counts it. Without `dataset.archive` the download is timed too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def seqrec(*arguments: str) -> dict[str, float]:
    """Run `seqrec ARGUMENTS` to its end: wall seconds and peak memory in MB. A failure ends the benchmark."""
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "seqrec_cli", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)  # the usage of this child alone, not the largest of all so far
    seconds = time.perf_counter() - began
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"seqrec {' '.join(arguments)} ended with {code}")
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, kilobytes on Linux
    return {"seconds": seconds, "peak_memory_mb": usage.ru_maxrss * unit / 2**20}


def summary(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def report(title: str, runs: list[dict[str, float]], overrides: list[str], file: Path | None) -> dict[str, Any]:
    """Print min, median and max of each figure; write them, and every run, to `file` if one is named."""
    figures = {name: summary([run[name] for run in runs]) for name in runs[0]}
    print(f"{title} {' '.join(overrides)}: {len(runs)} runs, min / median / max")
    for name, figure in figures.items():
        print(f"  {name}: " + " / ".join(f"{figure[key]:,.2f}" for key in ("min", "median", "max")))
    result = {"benchmark": title, "overrides": overrides, "cores": os.cpu_count(), "figures": figures, "runs": runs}
    if file is not None:
        file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("overrides", nargs="*", help="overrides as for seqrec")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


def main() -> None:
    asked = arguments("Seconds and peak memory of seqrec preprocess.")
    runs = []
    for _ in range(asked.runs):
        with tempfile.TemporaryDirectory() as data_dir:
            runs.append(seqrec("preprocess", *asked.overrides, f"data_dir={data_dir}"))
    report("preprocess", runs, asked.overrides, asked.json)


if __name__ == "__main__":
    main()
