"""Names and numbers of a sweep's jobs, and one sweep at a time in a folder."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from seqrec_cli.commands.sweep import Refused, Sweep, SweepWatcher, end_sweep, job_folder, varying_keys
from seqrec_cli.commands.sweep_report import report_of, sealed
from seqrec_cli.config.compose import compose
from seqrec_cli.config.validate import validate
from seqrec_cli.reporting.sweep_folder import Launch, SweepFolder, empty_row


def test_folder_names_are_safe_and_short() -> None:
    said = ["model=bst", "dataset.archive='/data/ml 1m=(2).zip'", "run_dir=x/y", "model.mlp=[64,32]"]
    assert job_folder(0, said, ["model"]) == "0_model-bst"
    assert job_folder(3, said, ["model.mlp", "dataset.archive"]) == "3_archive-ml-1m-2.zip_mlp-64-32"
    assert job_folder(4, said, []) == "4"
    keys = [f"trainer.key{i}" for i in range(50)]
    name = job_folder(12, [f"{key}=1" for key in keys], keys)
    assert name.startswith("12_key0-1_key1-1_")
    assert len(name) <= 120


def test_what_varies_is_told_by_the_command_line() -> None:
    assert varying_keys(["model=bst,din", "trainer.lr=1e-3", "trainer.seed=range(3)"]) == ["model", "trainer.seed"]


def begun(folder: Path, launcher: str = "inline", **sweeper: Any) -> Sweep:
    """A sweep into the folder, as Hydra begins it."""
    hydra = {"sweep": {"dir": str(folder)}, "runtime": {"choices": {"hydra/launcher": launcher}}, "launcher": {}}
    hydra |= {"overrides": {"task": ["trainer.lr=1,2", "model=bst"]}, "sweeper": {**SWEEPER, **sweeper}}
    SweepWatcher("train", []).on_multirun_start(OmegaConf.create({"hydra": hydra}))
    assert SweepWatcher.current is not None
    return SweepWatcher.current


SWEEPER = {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "max_batch_size": None}


@pytest.fixture(autouse=True)
def _no_sweep_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SweepWatcher, "current", None)


def test_one_sweep_at_a_time_in_a_folder(tmp_path: Path) -> None:
    first = begun(tmp_path)
    with pytest.raises(Refused, match="another sweep is under way"):
        begun(tmp_path)
    (tmp_path / "jobs.jsonl").write_text('{"job": 0}\n')
    end_sweep(first, "train", completed=True)
    begun(tmp_path).lock.release()


def test_jobs_keep_their_numbers_and_new_ones_come_behind(tmp_path: Path) -> None:
    first = begun(tmp_path, params={"trainer.seed": "1,2"})
    assert first.launch.numbers == (0, 1, 2, 3)
    assert first.folder.planned(first.launch)[1]["overrides"] == ["trainer.seed=1", "trainer.lr=2", "model=bst"]
    first.lock.release()
    second = begun(tmp_path, params={"trainer.seed": "3,1"})
    assert second.launch.numbers == (4, 5, 0, 1)
    assert second.folder.read_launch() == second.launch
    second.lock.release()


def test_another_sweeper_tells_no_jobs_in_advance(tmp_path: Path) -> None:
    sweep = begun(tmp_path, _target_="hydra_plugins.other.OtherSweeper")
    assert sweep.launch.numbers is None
    assert sweep.launch.number(5) == 5
    sweep.lock.release()


@pytest.mark.parametrize(("verb", "given"), [("train", "evaluation.test"), ("ensemble", "test")])
@pytest.mark.parametrize(("asked", "read"), [("once", "best"), ("none", "none"), ("all", "all")])
def test_a_job_leaves_its_test_to_the_sweep(verb: str, given: str, asked: str, read: str) -> None:
    words = ["ckpts=[a,b]"] if verb == "ensemble" else []
    record: Any = sealed(validate(verb, compose(verb, [*words, f"{given}={asked}"])))
    assert (record.test if verb == "ensemble" else record.evaluation.test) == read


@pytest.mark.parametrize("asked", ["best", "none"])
def test_studies_of_a_sweep_leave_the_test_of_their_winners_to_it(asked: str) -> None:
    """Each would read its own winner's; of all studies, that of the best is read, where it was asked for."""
    record: Any = sealed(validate("tune", compose("tune", [f"test={asked}"])))
    assert record.tune.test == "none"
    assert report_of(record, {"val": {}})["seal"] == asked


def test_a_job_that_was_not_started_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = begun(tmp_path)
    assert sweep.launch.numbers == (0, 1)
    sweep.folder.append(empty_row(0, ["trainer.lr=1", "model=bst"]) | {"state": "done"})
    assert not end_sweep(sweep, "train", completed=True)
    assert "1 of 2 jobs were not started" in capsys.readouterr().out


def test_a_start_writes_the_row_of_a_job_whose_end_nobody_saw(tmp_path: Path) -> None:
    SweepFolder(tmp_path).begin(1, {"row": empty_row(1, ["trainer.lr=2", "model=bst"])})
    sweep = begun(tmp_path)
    assert [(row["job"], row["state"]) for row in sweep.folder.rows()] == [(1, "killed")]
    sweep.lock.release()


def test_jobs_read_what_their_launch_divides(tmp_path: Path) -> None:
    launch = Launch((0, 2), 2, 4, gpus=("1", "3"))
    SweepFolder(tmp_path).write_launch(launch)
    assert SweepFolder(tmp_path).read_launch() == launch
