"""A run's folder: allocation without collisions, refused reuse, whole writes, valid JSON."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.reporting import run_folder
from seqrec_cli.reporting.run_folder import RunFolder, read_rows


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.allocate(str(tmp_path / "run"), "sasrec")


def test_dated_folders_started_together_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Noon(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 3, 4, 12, 0, 5)

    monkeypatch.setattr(run_folder, "datetime", Noon)
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: RunFolder.allocate(None, "sasrec/ml 1m"), range(8)))
    names = sorted(str(folder.path) for folder in folders)
    assert names[0] == "outputs/2026-03-04/12-00-05_sasrec-ml-1m"
    assert len(set(names)) == 8
    assert all(Path(name).is_dir() for name in names)


def test_named_folder_may_exist_if_empty(tmp_path):
    (tmp_path / "run").mkdir()
    assert RunFolder.allocate(str(tmp_path / "run"), "x").path == tmp_path / "run"


def test_of_two_runs_with_one_name_one_is_refused(tmp_path):
    def allocate(_: int) -> bool:
        try:
            RunFolder.allocate(str(tmp_path / "run"), "x")
        except SeqrecError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(allocate, range(8))) == 1


@pytest.mark.parametrize(
    ("left_there", "advice"),
    [
        ("DONE", "finished run; name another run_dir"),
        ("last.pt", "unfinished run; go on with resume="),
        ("manifest.json", "without a checkpoint"),
        ("thesis.tex", "not empty"),
    ],
)
def test_folder_in_use_is_refused_and_left_alone(tmp_path, left_there, advice):
    (tmp_path / left_there).write_text("mine")
    with pytest.raises(SeqrecError, match=advice):
        RunFolder.allocate(str(tmp_path), "x")
    assert [path.name for path in tmp_path.iterdir()] == [left_there]
    assert (tmp_path / left_there).read_text() == "mine"


def test_a_file_is_no_run_dir(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SeqrecError, match="is a file"):
        RunFolder.allocate(str(tmp_path / "file"), "x")


def test_open_returns_to_a_run(folder):
    folder.write_config({"model": {"name": "sasrec"}})
    again = RunFolder.open(folder.path)
    assert again.read_config() == {"model": {"name": "sasrec"}}
    assert not again.is_done
    folder.mark_done()
    assert again.is_done
    assert again.done.name == "DONE"


def test_open_refuses_a_missing_and_a_foreign_folder(tmp_path):
    with pytest.raises(SeqrecError, match="is no folder"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(SeqrecError, match=r"no manifest\.json and no config\.yaml"):
        RunFolder.open(tmp_path)


def test_config_keeps_values_and_types(folder):
    config = {
        "trainer": {"lr": 1e-3, "weight_decay": 1e-5, "betas": [0.9, 0.98], "clip_norm": None, "seed": 0},
        "dataset": {"name": "1e3", "url": "https://example.org/a?b=c", "min_rating": 4.0, "archive": "null"},
        "evaluation": {"baselines": True},
    }
    folder.write_config(config)
    read = folder.read_config()
    assert read == config
    assert isinstance(read["dataset"]["name"], str)
    assert isinstance(read["dataset"]["min_rating"], float)


def test_manifest_is_merged(folder):
    folder.write_manifest({"seed": 0, "host": {"cores": 2}})
    folder.write_manifest({"seed": 1, "memory": np.float32(2.5), "rows": np.int64(3), "at": Path("a")})
    assert json.loads(folder.manifest.read_text()) == {
        "seed": 1,
        "host": {"cores": 2},
        "memory": 2.5,
        "rows": 3,
        "at": "a",
    }


def test_metrics_rows_are_appended_and_replaced_when_a_step_comes_again(folder):
    for step in (10, 20, 30):
        folder.append_metrics({"epoch": step // 10, "step": step, "split": "val", "mrr": step / 100})
    assert [row["mrr"] for row in read_rows(folder.metrics_jsonl)] == [0.1, 0.2, 0.3]
    folder.append_metrics({"epoch": 2, "step": 20, "split": "val", "mrr": 0.9})
    assert [row["mrr"] for row in read_rows(folder.metrics_jsonl)] == [0.1, 0.9]
    for mrr in (0.7, 0.8):
        folder.append_metrics({"epoch": 2, "step": 20, "split": "val_swa", "mrr": mrr})
    assert [row["mrr"] for row in read_rows(folder.metrics_jsonl)] == [0.1, 0.9, 0.8]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
@pytest.mark.parametrize("write", ["write_metrics", "write_manifest", "append_metrics"])
def test_numbers_that_are_not_finite_are_refused_and_the_file_kept(folder, write, value):
    file = {
        "write_metrics": folder.metrics_json,
        "write_manifest": folder.manifest,
        "append_metrics": folder.metrics_jsonl,
    }[write]
    getattr(folder, write)({"step": 1, "split": "val", "mrr": 0.25})
    before = file.read_text()
    with pytest.raises(SeqrecError, match="not finite"):
        getattr(folder, write)({"step": 2, "split": "val", "mrr": value})
    assert file.read_text() == before
    assert folder.metrics_jsonl is not file or all(json.loads(line) for line in before.splitlines())


def test_a_write_that_is_cut_off_leaves_the_old_file(folder, monkeypatch):
    folder.write_metrics({"test": {"mrr": 0.25}})

    def killed(*_: object) -> None:
        raise OSError("disk gone")

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(OSError, match="disk gone"):
        folder.write_metrics({"test": {"mrr": 0.5}})
    monkeypatch.undo()
    assert folder.read_metrics() == {"test": {"mrr": 0.25}}
    assert sorted(path.name for path in folder.path.iterdir()) == ["manifest.json", "metrics.json"]


def test_names_that_scripts_rely_on(folder):
    paths = (
        folder.config_yaml,
        folder.manifest,
        folder.metrics_jsonl,
        folder.metrics_json,
        folder.best,
        folder.last,
        folder.ranks("test"),
        folder.curves_png,
        folder.tensorboard,
        folder.done,
    )
    assert [path.name for path in paths] == [
        "config.yaml",
        "manifest.json",
        "metrics.jsonl",
        "metrics.json",
        "best.pt",
        "last.pt",
        "ranks_test.parquet",
        "curves.png",
        "tensorboard",
        "DONE",
    ]
    assert {path.parent for path in paths} == {folder.path}


def test_a_folder_is_trained_into_by_one_at_a_time(folder):
    folder.write_config({})
    folder.last.write_text("")
    with folder.training():
        again = RunFolder.open(folder.path).training()
        with pytest.raises(SeqrecError, match=r"^another process is training into .*run; wait for it$"), again:
            pass
        with pytest.raises(SeqrecError, match="another process is training into it; name another run_dir"):
            RunFolder.allocate(str(folder.path), "x")
    with pytest.raises(SeqrecError, match="unfinished run; go on with"):
        RunFolder.allocate(str(folder.path), "x")
    with RunFolder.open(folder.path).training():
        pass


def test_a_killed_training_holds_its_folder_no_longer(folder):
    code = (
        "import sys, time; from pathlib import Path; from seqrec_cli.reporting.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).training(): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder.path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(SeqrecError, match="another process is training"), folder.training():
            pass
        other.kill()
        other.wait()
    with folder.training():
        pass


def test_a_left_lock_makes_no_folder_full(folder):
    with folder.training():
        pass
    folder.lock.touch()
    folder.manifest.unlink()
    assert RunFolder.allocate(str(folder.path), "x").manifest.is_file()


@pytest.mark.parametrize("torn", [b'{"val": ', b"[1]", b"\xff\xfe"])
def test_a_torn_file_is_told_in_one_line(folder, torn):
    for file, read, mend in (
        (folder.metrics_json, folder.read_metrics, "evaluate the run again: seqrec evaluate ckpt="),
        (folder.manifest, folder.read_manifest, "put it back from a copy"),
    ):
        file.write_bytes(torn)
        with pytest.raises(SeqrecError, match=f"{file.name} is damaged .*; {mend}") as refusal:
            read()
        assert "\n" not in str(refusal.value)
