"""The benchmark scripts run, and their figures come from the runs they claim to time."""

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def log_of_events(tmp_path: Path) -> list[str]:
    rows = [f"{user},{(7 * user + 3 * k * k) % 40},{k}" for user in range(20) for k in range(6)]
    (tmp_path / "log.csv").write_text("user,item,time\n" + "\n".join(rows) + "\n")
    return ["dataset=csv", "dataset.time_unit=s", f"dataset.archive={tmp_path / 'log.csv'}"]


def bench(python: list[str], script: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [*python, "-m", f"scripts.{script}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=check, cwd=ROOT)


def test_preprocess_benchmark(python, tmp_path, log_of_events):
    done = bench(python, "bench_preprocess", *log_of_events, "--runs", "2", "--json", str(tmp_path / "out.json"))
    result = json.loads((tmp_path / "out.json").read_text())
    assert len(result["runs"]) == 2
    for figure in ("seconds", "peak_memory_mb"):
        runs = [run[figure] for run in result["runs"]]
        assert result["figures"][figure]["min"] == min(runs)
        assert result["figures"][figure]["max"] == max(runs)
        assert f"{max(runs):,.2f}" in done.stdout
    assert result["figures"]["peak_memory_mb"]["min"] > 20  # MB: a Python with NumPy holds that much


@pytest.mark.exhaustive  # starts Python anew several times; no verb is in it
def test_start_benchmark(python, tmp_path, log_of_events):
    overrides = [*log_of_events, "model.embed_dim=8", "model.max_length=4"]
    bench(python, "bench_start", *overrides, "--runs", "1", "--json", str(tmp_path / "out.json"))
    (run,) = json.loads((tmp_path / "out.json").read_text())["runs"]
    assert 0 < run["first_step_seconds"] < run["process_seconds"]


def test_a_failing_run_fails_the_benchmark(python):
    done = bench(python, "bench_preprocess", "dataset=no-such-set", "--runs", "1", check=False)
    assert done.returncode != 0
    assert "ended with 2" in done.stderr
    assert "min / median / max" not in done.stdout
