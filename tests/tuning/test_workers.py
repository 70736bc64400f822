"""Two workers on one study: one is killed, nothing is lost, nothing is counted twice, and another takes its place."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_study import following, rising, study_in

from seqrec_cli.commands import tune
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.saying import silent
from seqrec_cli.tuning.folder import StudyFolder
from seqrec_cli.tuning.worker import work
from seqrec_cli.tuning.workers import REFUSED, environment_of, share_of_cores, work_together

# Whoever gets the third trial never ends it, and says who that is.
WORKER = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_study import following, rising, study_in
from seqrec_cli.saying import silent
from seqrec_cli.tuning.worker import work

folder = Path(sys.argv[1])

def run(claim):
    if claim.number == 2:
        (folder / "hanging").write_text(str(os.getpid()))
        os.rename(folder / "hanging", folder / "hangs")
        time.sleep(600)
    return following(rising, 1)(claim)

sys.exit(0 if work(study_in(folder, trials=6), run, silent) else 130)
"""


def worker(folder: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", WORKER, str(folder), str(Path(__file__).parent)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)


def test_a_killed_worker_is_replaced_and_its_trial_run_again(tmp_path: Path) -> None:
    study, started, said = study_in(tmp_path, trials=6), [], []

    def start(number: int) -> "subprocess.Popen[bytes]":
        started.append(worker(tmp_path))
        return started[-1]

    def kill() -> None:
        for _ in range(2000):
            if (tmp_path / "hangs").exists():
                os.kill(int((tmp_path / "hangs").read_text()), signal.SIGKILL)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    assert work_together(study, 2, start, say=said.append)
    thread.join()
    assert len(started) == 3
    assert len(said) == 1
    assert "died (signal 9): another takes its place" in said[0]
    records = study.records()
    assert [record.state for record in records] == ["complete"] * 6  # of six: none lost, none more
    assert max(Counter(repr(record.settings) for record in records).values()) == 1
    lost = study.optuna.trials[2]
    assert (lost.state.name, lost.user_attrs["error"]) == ("FAIL", "its worker died")
    (again,) = [trial for trial in study.optuna.trials if trial.user_attrs.get("again") == 2]
    assert again.user_attrs["settings"] == lost.user_attrs["settings"]
    assert again.state.name == "COMPLETE"


def test_settings_that_kill_every_worker_are_left_after_some_tries(tmp_path: Path) -> None:
    """A trial whose lock nobody holds is one whose worker died."""
    study = study_in(tmp_path, trials=2, retries=2)
    tried = []
    for _ in range(3):
        claim = study.claim()
        assert claim is not None
        tried.append(claim.settings)
        claim.lock.release()
    assert tried[0] == tried[1] == tried[2]
    work(study, following(rising, 1), silent)
    failed, well = study.records()
    assert (failed.state, failed.error) == ("failed", "its worker died 3 times with these settings")
    assert failed.settings == tried[0]
    assert well.state == "complete"


def test_a_line_of_the_journal_that_a_kill_has_cut_is_taken_away(tmp_path: Path) -> None:
    work(study_in(tmp_path, trials=2), following(rising, 1), silent)
    with open(tmp_path / "journal.log", "ab") as file:
        file.write(b'{"op_code": 8, "worker_id"')
    study = study_in(tmp_path, trials=4)
    work(study, following(rising, 1), silent)
    assert [record.state for record in study_in(tmp_path, trials=4).records()] == ["complete"] * 4


def test_workers_that_die_before_they_begin_are_not_started_for_ever(tmp_path: Path) -> None:
    started = []

    def start(number: int) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"]))
        return started[-1]

    with pytest.raises(SeqrecError, match="4 workers died one after another, and no trial was begun"):
        work_together(study_in(tmp_path), 1, start, say=silent)
    assert len(started) == 4


def test_each_worker_has_its_share_of_the_cores() -> None:
    assert share_of_cores(4, 8) == 2
    assert share_of_cores(4, 2) == 1
    assert environment_of(0, 2, 1)["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("visible", "device", "gpus", "expected"),
    [
        (None, "auto", 3, ["0", "1", "2", "0"]),
        (None, "auto", 1, [None] * 4),
        (None, "cpu", 3, [None] * 4),
        ("3,5", "auto", 2, ["3", "5", "3", "5"]),
        ("7", "cuda", 1, ["7"] * 4),
        ("GPU-a1, GPU-b2", "cuda", 2, ["GPU-a1", "GPU-b2", "GPU-a1", "GPU-b2"]),
        ("", "auto", 0, [""] * 4),
        ("3,5", "cuda:1", 2, ["3,5"] * 4),  # of one chosen GPU there is no turn
    ],
)
def test_each_worker_has_a_gpu_in_turn_of_those_the_user_left_visible(
    visible: str | None, device: str, gpus: int, expected: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, str]] = []
    monkeypatch.setattr(tune.torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(tune.subprocess, "Popen", lambda command, env, start_new_session: started.append(env))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    cfg: Any = SimpleNamespace(tune=SimpleNamespace(workers=4), hardware=SimpleNamespace(device=device, threads=8))
    for number in range(4):
        tune._start(cfg, StudyFolder(Path("study"), ("model=sasrec",), None), number)
    assert [each.get("CUDA_VISIBLE_DEVICES") for each in started] == expected
    assert {each["OMP_NUM_THREADS"] for each in started} == {"2"}


def test_a_worker_composes_what_its_terminal_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the folder of the space, which may be of a mapping in Python; what study.json says may be another's."""
    started: list[list[str]] = []
    composed = []

    def compose(verb: str, given: list[str], config_dir: str | None) -> None:
        composed.append((verb, given, config_dir))
        raise SeqrecError("enough")

    monkeypatch.setattr(tune.subprocess, "Popen", lambda command, env, start_new_session: started.append(command))
    monkeypatch.setattr(tune, "compose", compose)
    cfg: Any = SimpleNamespace(tune=SimpleNamespace(workers=1), hardware=SimpleNamespace(device="cpu", threads=1))
    tune._start(cfg, StudyFolder(tmp_path, ("model=sasrec", "space=given"), "spaces/mine"), 0)
    (command,) = started
    assert tune.join(*command[3:]) == REFUSED
    assert composed == [("tune", ["model=sasrec", "space=given"], "spaces/mine")]
