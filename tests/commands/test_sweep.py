"""Names of a sweep's folders, and reading only one's own reports."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from seqrec_cli.commands.sweep import Sweep, SweepWatcher, end_sweep, job_folder, run_job, sealed, varying_keys
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import validate


def test_folder_names_are_safe_and_short() -> None:
    said = ["model=bst", "dataset.archive='/data/ml 1m=(2).zip'", "run_dir=x/y", "model.mlp=[64,32]"]
    assert job_folder(0, said, ["model"]) == "0_model-bst"
    assert job_folder(3, said, ["model.mlp", "dataset.archive"]) == "3_archive-ml-1m-2.zip_mlp-64-32"
    assert job_folder(4, said, []) == "4"
    keys = [f"trainer.key{i}" for i in range(50)]
    name = job_folder(12, [f"{key}=1" for key in keys], keys)
    assert name.startswith("12_key0-1_key1-1_")
    assert len(name) <= 120


def test_reports_of_an_earlier_sweep_are_left_out(tmp_path: Path) -> None:
    report = tmp_path / "jobs.jsonl"
    assert Sweep(tmp_path, 0).rows() == []
    report.write_text('{"job": 0, "old": 1}\n')
    later = Sweep(tmp_path, report.stat().st_size)
    with report.open("a") as file:
        file.write('{"job": 1}\n{"job": 0}\n')
    assert later.rows() == [{"job": 0}, {"job": 1}]


def test_what_varies_is_told_by_the_command_line() -> None:
    assert varying_keys(["model=bst,din", "trainer.lr=1e-3", "trainer.seed=range(3)"]) == ["model", "trainer.seed"]


def begun(folder: Path) -> Sweep:
    """A sweep into the folder, as Hydra begins it."""
    SweepWatcher("train", []).on_multirun_start(OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}}))
    assert SweepWatcher.current is not None
    return SweepWatcher.current


def test_one_sweep_at_a_time_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SweepWatcher, "current", None)
    hydra: Any = SimpleNamespace(sweep=SimpleNamespace(dir=tmp_path))
    first, second = begun(tmp_path), begun(tmp_path)
    assert (first.lock is None, second.lock is None) == (False, True)
    with pytest.raises(SeqrecError, match="another sweep is under way"):
        run_job("train", OmegaConf.create({}), hydra)
    assert end_sweep(second, "train", completed=True)
    assert begun(tmp_path).lock is None  # the first is not over
    (tmp_path / "jobs.jsonl").write_text('{"job": 0}\n')
    assert end_sweep(Sweep(tmp_path, 99, first.lock), "train", completed=True)
    third = begun(tmp_path)
    assert third.lock is not None
    assert third.rows() == []  # what is there already is an earlier one's
    third.lock.release()


@pytest.mark.parametrize(("verb", "given"), [("train", "evaluation.test"), ("ensemble", "test")])
@pytest.mark.parametrize(("asked", "read"), [("once", "best"), ("none", "none"), ("all", "all")])
def test_a_job_leaves_its_test_to_the_sweep(verb: str, given: str, asked: str, read: str) -> None:
    words = ["ckpts=[a,b]"] if verb == "ensemble" else []
    record: Any = sealed(validate(verb, compose(verb, [*words, f"{given}={asked}"])))
    assert (record.test if verb == "ensemble" else record.evaluation.test) == read
