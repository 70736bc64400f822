"""The benchmark of catalogue sizes runs real steps and finds the memory they took."""

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("case", ["full", "sampled"])
def test_one_case(case: str, python: list[str]) -> None:
    small = ["model.blocks=1", "hardware.threads=1", "hardware.device=cpu", "hardware.precision=fp32"]
    command = [*python, "-m", "scripts.bench_catalogue", *small, "--case", case, "--items", "4000", "--steps", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    row = json.loads(done.stdout.splitlines()[-1])
    assert (row["case"], row["items"], len(row["all_seconds"])) == (case, 4000, 2)
    assert 0 < row["seconds"] <= max(row["all_seconds"])
    assert 3 < row["model_and_state_mb"] < 6  # the table and its two averages: 3 x 4,001 x 64 x 4 bytes
    assert 10 < row["peak_mb"] < 1000  # activations of 12,800 positions
