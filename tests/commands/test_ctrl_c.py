"""Ctrl-C in a terminal (SIGINT to the foreground's processes) while trainings run: all end, and nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from seqrec_cli import cli
from seqrec_cli.reporting.run_folder import read_rows
from seqrec_cli.reporting.sweep_folder import SweepFolder
from tests import warm

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 150
TINY = ["dataset.users=30", "dataset.items=40", "dataset.max_events=12", "model.embed_dim=8", "model.blocks=1"]
TINY += [f"trainer.max_epochs={EPOCHS}", "trainer.patience=null", "trainer.swa_epochs=null"]
TINY += ["evaluation.baselines=false", "evaluation.cutoffs=[10]", "hardware.device=cpu"]
# A shell that starts something in the background has it ignore Ctrl-C, and so may the one that started pytest.
SEQREC = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); {more}"
SEQREC += "from seqrec_cli.cli import main; sys.exit(main(sys.argv[1:]))"
STANDS_IN = "import sys\nif any('popen_loky' in word for word in sys.orig_argv): sys.executable = {path!r}\n"


def interrupted(command: list[str], runs: Path, *, environment: dict[str, str], said: Path) -> int:
    """The exit code of a command that gets Ctrl-C when two runs below a folder have validated."""
    with said.open("w") as file:
        started = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    until = time.monotonic() + 240
    while sum(bool(path.read_text()) for path in runs.rglob("metrics.jsonl")) < 2:
        assert started.poll() is None, said.read_text()
        assert time.monotonic() < until, said.read_text()
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGINT)
    return started.wait(timeout=120)


def epochs(run: Path) -> list[int]:
    return [row["epoch"] for row in read_rows(run / "metrics.jsonl")]


def is_whole(run: Path, *, before: list[dict[str, Any]]) -> bool:
    """Whether each validation is there once, and those of before as they were: a run begun anew has other seconds."""
    found, rows = epochs(run), read_rows(run / "metrics.jsonl")
    return rows[: len(before)] == before and found == list(range(found[0], EPOCHS + 1, found[0]))


@pytest.fixture
def stand_in(tmp_path: Path, python: list[str]) -> Path:
    """A program that is `python`, and need not import torch anew."""
    warm.wrapper(tmp_path / "python", python)
    return tmp_path / "python"


def test_a_sweep_side_by_side_is_interrupted_and_gone_on_with(tmp_path: Path, stand_in: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    (tmp_path / "sitecustomize.py").write_text(STANDS_IN.format(path=str(stand_in)))
    folder = SweepFolder(tmp_path / "sweep")
    words = [*TINY, "model.dropout=0.1,0.2", f"data_dir={tmp_path / 'data'}", f"run_dir={folder.path}"]
    command = [sys.executable, "-c", SEQREC.format(more=""), "train", "-m", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    side_by_side = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    said = tmp_path / "said.txt"
    assert interrupted([*command, *side_by_side], folder.path, environment=environment, said=said) == 130
    assert [row["state"] for row in folder.rows()] == ["interrupted"] * 2, said.read_text()
    assert folder.running() == {}  # no job is left
    assert "what is missing runs with the same command" in said.read_text()
    assert "Traceback" not in said.read_text()
    runs = [Path(row["run_dir"]) for row in folder.rows()]
    assert all(0 < epochs(run)[-1] < EPOCHS for run in runs)
    before = [read_rows(run / "metrics.jsonl") for run in runs]

    assert cli.main(["train", "-m", "hydra/launcher=inline", *words]) == 0
    assert [row["state"] for row in folder.rows()] == ["done"] * 2
    assert all(is_whole(run, before=rows) for run, rows in zip(runs, before, strict=True))


@pytest.mark.exhaustive  # a minute; the sweep above is interrupted alike
def test_a_study_with_workers_is_interrupted_and_gone_on_with(
    tmp_path: Path, stand_in: Path, python: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "mine.yaml").write_text("model.dropout: {type: float, low: 0.0, high: 0.5}\n")
    study = tmp_path / "study"
    words = [*TINY, "space=mine", "trials=2", "pruner=none", f"data_dir={tmp_path / 'data'}", f"run_dir={study}"]
    words += ["--config-dir", str(tmp_path)]
    code = SEQREC.format(more=f"sys.executable = {str(stand_in)!r}; ")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    said = tmp_path / "said.txt"
    command = [*python, "-c", code, "tune", *words, "workers=2"]
    assert interrupted(command, study / "trials", environment=environment, said=said) == 130
    assert "stopped, nothing lost; go on with: seqrec tune" in said.read_text()
    assert "Traceback" not in said.read_text()
    before = [read_rows(path) for path in sorted(study.rglob("metrics.jsonl"))]
    assert len(before) == 2
    assert all(0 < rows[-1]["epoch"] < EPOCHS for rows in before)

    assert cli.main(["tune", *words]) == 0
    assert "2 trials, by validation" in capsys.readouterr().out  # those of before, and no more
    runs = sorted(path for path in (study / "trials").iterdir() if path.is_dir())
    assert len(runs) == 2
    for run in runs:  # a trial that is gone on with has a number of its own
        assert any(is_whole(run, before=rows) for rows in before)
