"""Jobs of a sweep in processes of their own: each end has a row, the others go on, and the next start mends it."""

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from seqrec_cli import cli
from seqrec_cli.commands import sweep_process
from seqrec_cli.commands.sweep_process import run_child, settle_left_over
from seqrec_cli.commands.sweep_report import identity
from seqrec_cli.commands.sweep_retry import as_before, retried
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import validate
from seqrec_cli.reporting.sweep_folder import Row, SweepFolder, empty_row

ROOT = Path(__file__).resolve().parents[2]
TINY = ["dataset=synthetic", "dataset.users=60", "dataset.items=40", "dataset.max_events=12"]
TINY += ["evaluation.baselines=false"]


def ran(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch, code: str) -> Row:
    """The row of job 3, whose process runs this code: its arguments are the description and the result's path."""
    monkeypatch.setattr(sweep_process, "START", f"import sys, os, json, time; {code}")
    row = empty_row(3, ["trainer.lr=1"]) | {"log": "logs/3.log"}
    return run_child(folder, row, {"verb": "train", "record": {}}, environment={**os.environ, "GIVEN": "yes"})


@pytest.mark.parametrize(
    ("code", "state", "says"),
    [
        ("os.kill(os.getpid(), 9)", "killed", "killed by signal 9 (SIGKILL; the system does so where memory runs out)"),
        ("os.kill(os.getpid(), 15)", "killed", "killed by signal 15 (SIGTERM)"),
        ("sys.exit(5)", "failed", "its process ended with exit code 5 and no word (see logs/3.log)"),
        (
            "open(sys.argv[3], 'w').write(json.dumps(dict(state='failed', error='KeyError: 1', bug=True)))",
            "failed",
            "KeyError: 1 (traceback in logs/3.log)",
        ),
        ("open(sys.argv[3], 'w').write(json.dumps(dict(state='done', val=0.5)))", "done", None),
    ],
    ids=["kill -9", "kill", "exit", "bug", "done"],
)
def test_the_end_of_a_process_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, state: str, says: str | None
) -> None:
    row = ran(SweepFolder(tmp_path), monkeypatch, f"print(os.environ['GIVEN'], flush=True); {code}")
    assert (row["state"], row["error"]) == (state, says)
    assert (tmp_path / "logs" / "3.log").read_text() == "yes\n"


def test_an_interrupted_sweep_waits_for_its_job_to_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits closes the lifeline; the job says how it ended."""
    waits = subprocess.Popen.wait
    calls = []

    def wait(self: Any, timeout: float | None = None) -> int:
        calls.append(timeout)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return waits(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    code = "sys.stdin.read(); open(sys.argv[3], 'w').write(json.dumps(dict(state='interrupted', error='interrupted')))"
    row = ran(SweepFolder(tmp_path), monkeypatch, code)
    assert row["state"] == "interrupted"
    assert calls == [None, sweep_process.PATIENCE]


def test_jobs_whose_end_nobody_saw_get_their_rows(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    for job in (0, 1, 2):
        folder.begin(job, {"row": empty_row(job, [])})
    folder.result(1).write_text(json.dumps({"state": "done", "val": 0.25, "error": None}))
    with FileLock(folder.alive(2)):  # still running, on another machine
        rows = settle_left_over(folder, patience=0)
    assert [(row["job"], row["state"], row["val"]) for row in rows] == [(0, "killed", None), (1, "done", 0.25)]
    assert "its process ended out of sight" in rows[0]["error"]
    assert list(folder.running()) == [2]
    assert folder.rows() == rows
    (row,) = settle_left_over(folder, stopped=True)
    assert (row["job"], row["state"]) == (2, "interrupted")


def record(tmp_path: Path, *more: str) -> Any:
    words = [*TINY, "model=sasrec", f"run_dir={tmp_path / 'run'}", f"data_dir={tmp_path / 'data'}", *more]
    return validate("train", compose("train", words))


def test_a_job_is_known_by_its_settings_and_data(tmp_path: Path) -> None:
    found = identity(record(tmp_path))
    assert found == identity(record(tmp_path, "hardware.device=cpu", "hardware.threads=3", "evaluation.test=none"))
    assert found["settings"] != identity(record(tmp_path, "trainer.lr=0.5"))["settings"]
    other = identity(record(tmp_path, "dataset.seed=5"))
    assert found["data"] != other["data"]
    assert found["settings"] != identity(record(tmp_path, "evaluation.test=all"))["settings"]


def test_what_is_done_stays_and_what_is_not_goes_on(tmp_path: Path) -> None:
    asked = record(tmp_path)
    run = tmp_path / "run"
    row = empty_row(0, []) | identity(asked) | {"run_dir": str(run)}
    done = row | {"state": "done", "val": 0.5}
    assert as_before(row, done) is None  # its folder is gone
    run.mkdir()
    (run / "DONE").touch()
    assert as_before(row, done) is done
    assert as_before(row, row | {"state": "killed"}) is None
    assert as_before(row | {"settings": "other"}, done) is None
    assert as_before(row | {"data": "other"}, done) is None
    assert as_before(row | {"data": None}, done) is done  # its raw file was taken away
    (run / "DONE").unlink()
    (run / "manifest.json").write_text("{}")
    with pytest.raises(SeqrecError, match="holds a run of other settings or data than job 0 has now"):
        retried(asked, row, row | {"settings": "other"})
    (run / "last.pt").touch()
    goes_on: Any = retried(asked, row, row)
    assert (goes_on.resume, goes_on.run_dir) == (str(run), None)
    (run / "last.pt").unlink()
    assert retried(asked, row, row) is asked
    assert not run.exists()  # nothing in it to go on from
    assert retried(asked, row, None) is asked


# Of joblib's workers: a job's process is a stand-in that need not import torch anew.
STANDS_IN = """
import sys
if any("popen_loky" in word for word in sys.orig_argv):
    sys.executable = {path!r}
"""
KILLS = """#!/bin/sh
case "$*" in */.jobs/0.json*) kill -9 $$;; esac
exec {command} "$@"
"""


@pytest.fixture
def own_pool() -> Iterator[None]:
    """joblib keeps its worker processes for the next call, with the environment that they began with."""
    loky = pytest.importorskip("joblib.externals.loky")
    loky.get_reusable_executor().shutdown(wait=True)
    yield
    loky.get_reusable_executor().shutdown(wait=True)


@pytest.mark.usefixtures("own_pool")
def test_a_sweep_with_a_killed_job_ends_and_the_next_start_runs_that_job_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], python: list[str]
) -> None:
    """By joblib, whose pool breaks where a worker is killed: the job's own process is."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.setenv("COLUMNS", "200")
    stand_in = tmp_path / "python"
    stand_in.write_text(KILLS.format(command=shlex.join(python)))
    stand_in.chmod(0o755)
    (tmp_path / "sitecustomize.py").write_text(STANDS_IN.format(path=str(stand_in)))
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT), path]))
    folder = SweepFolder(tmp_path / "sweep")
    words = [*TINY, f"data_dir={tmp_path / 'data'}", f"run_dir={folder.path}", "evaluation.cutoffs=[10]"]
    command = ["train", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *words]
    command += ["model=markov,popular"]
    assert cli.main(command) == 2
    killed, done = folder.rows()
    assert (killed["state"], done["state"]) == ("killed", "done")
    assert killed["error"].startswith("killed by signal 9")
    out = capsys.readouterr().out
    assert "2 jobs, 2 at once" in out
    assert "job 0 killed: model=markov, killed by signal 9" in out
    assert f"what is missing runs with the same command and run_dir={folder.path}" in out
    assert folder.running() == {}

    command = [word for word in command if not word.startswith("hydra")] + ["hydra/launcher=inline"]
    assert cli.main(command) == 0
    mended, kept = folder.rows()
    assert mended["state"] == "done"
    assert mended["run_dir"] == str(folder.path / "0_model-markov")
    assert kept == done  # not run again
    assert len(folder.jobs_jsonl.read_text().splitlines()) == 3
    assert "again: seqrec train" in capsys.readouterr().out
    assert folder.page_html.is_file()


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_each_launcher_runs_jobs_by_our_presets(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In their local mode, by a verb that needs no torch; each job prints what it was asked for."""
    if importlib.util.find_spec(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher") is None:
        pytest.skip(f"the launcher of {launcher} is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(tmp_path)
    size = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    command = ["metrics", "-m", f"hydra/launcher={launcher}", f"hydra.sweep.dir={tmp_path / 'sweep'}", *size]
    assert cli.main([*command, "name=ndcg,auc"]) == 0
    folder = SweepFolder(tmp_path / "sweep")
    assert [(row["job"], row["state"]) for row in folder.rows()] == [(0, "done"), (1, "done")]
    said = [(folder.path / row["log"]).read_text() for row in folder.rows()]
    assert "ndcg" in said[0]
    assert "auc" in said[1]
    assert "deprecated" not in capsys.readouterr().err


def test_a_job_whose_lifeline_is_cut_saves_and_exits(tmp_path: Path) -> None:
    description, result = tmp_path / "0.json", tmp_path / "0.result.json"
    description.write_text(json.dumps({"verb": "train", "record": {}}))
    code = (
        "import sys, time; from seqrec_cli.commands import sweep_child; "
        "sweep_child.validate_plain = lambda *_: print('here', flush=True) or time.sleep(60); "
        "sys.exit(sweep_child.main())"
    )
    command = [sys.executable, "-c", code, str(description), str(result)]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == b"here\n"
    began = time.monotonic()
    child.stdin.close()
    assert child.wait(timeout=30) == 1
    assert time.monotonic() - began < 30
    assert json.loads(result.read_text()) == {"state": "interrupted", "error": "interrupted"}
    assert child.returncode != -signal.SIGINT


def test_a_launcher_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is not None:
        pytest.skip("Ray's launcher is installed")
    assert cli.main(["metrics", "-m", "hydra/launcher=ray", "name=ndcg,auc"]) == 2
    assert 'this launcher is not installed: pip install -c constraints-ray.txt "seqrec[ray]"' in capsys.readouterr().err
