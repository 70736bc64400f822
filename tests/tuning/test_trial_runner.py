"""What a trial's run is asked, and how it ended, between a study and `train`, which is pretended."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from seqrec_cli.commands import train, tune
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import dump
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.tuning.configs import TrialConfigs
from seqrec_cli.tuning.study import Outcome
from tests.tuning.test_study import study_in

pytest.importorskip("optuna")
ENTRIES = {"trainer.lr": {"type": "float", "low": 1e-3, "high": 1e-2}}
GIVEN = ["model=sasrec", "trainer.max_epochs=9", "evaluation.test=once"]


def ran(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    result: dict[str, Any],
    *,
    given: Sequence[str] = GIVEN,
    **claimed: Any,
) -> tuple[Any, Outcome]:
    """The record that `train` gets for a study's first trial, and the outcome of what it returns."""
    asked: list[TrainConfig] = []

    def main(record: TrainConfig, watch: Any = None) -> dict[str, Any]:
        asked.append(record)
        RunFolder(folder / "trials" / "0000").path.mkdir(parents=True, exist_ok=True)
        RunFolder(folder / "trials" / "0000").write_config(dump(record))
        return result

    monkeypatch.setattr(train, "main", main)
    claim = study_in(folder, ENTRIES).claim()
    assert claim is not None
    for name, value in claimed.items():
        setattr(claim, name, value)
    claim.folder.parent.mkdir(exist_ok=True)
    outcome = tune.trial_runner(TrialConfigs(given, None), metric="mrr", threads=3)(claim)
    return asked[0], outcome


def test_a_trial_is_asked_what_its_claim_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, outcome = ran(tmp_path, monkeypatch, {"val": {"mrr": 0.25, "ndcg@10": 0.5}}, epochs=4)
    assert outcome == Outcome("complete", 0.25, followed=4)
    assert (record.trainer.max_epochs, record.trainer.monitor, record.hardware.threads) == (4, "mrr", 3)
    assert (record.evaluation.test, record.run_dir) == ("none", str(tmp_path / "trials" / "0000"))
    assert 1e-3 <= record.trainer.lr <= 1e-2


def test_a_run_that_was_ended_early_has_no_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its last validation could be told."""
    _, outcome = ran(tmp_path, monkeypatch, {"pruned": True, "val": {"mrr": 0.25}})
    assert outcome == Outcome("pruned", followed=9)


def test_an_interrupted_trial_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = RunFolder(tmp_path / "before" / "0007")
    before.path.mkdir(parents=True)
    before.write_config(dump(TrialConfigs([*GIVEN, "trainer.lr=0.5", "hardware.threads=7"], None).record({})))
    before.write_manifest({})
    (before.path / "last.pt").touch()
    record, _ = ran(tmp_path, monkeypatch, {"interrupted": True}, again=before.path)
    here = tmp_path / "trials" / "0000"
    assert (record.resume, record.run_dir, record.trainer.lr) == (str(here), None, 0.5)
    assert record.hardware.threads == 3  # this worker's share
    assert (here / "last.pt").is_file()
    assert not before.path.exists()


def test_another_machine_s_trial_goes_on_with_the_data_and_the_device_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = ["dataset.archive=/there/log.zip", "data_dir=/there/data", "hardware.device=cuda:1", "dataset.min_rating=2"]
    before = RunFolder(tmp_path / "before" / "0007")
    before.path.mkdir(parents=True)
    words = ["dataset=ml-1m", "objective=sampled_softmax", *GIVEN]
    before.write_config(dump(TrialConfigs([*words, *there, "hardware.embedding=sparse"], None).record({})))
    before.write_manifest({})
    (before.path / "last.pt").touch()
    given = [*words, "dataset.archive=/here/log.zip"]
    record, _ = ran(tmp_path, monkeypatch, {"interrupted": True}, given=given, again=before.path)
    assert (record.dataset.archive, record.data_dir) == ("/here/log.zip", "outputs/data")
    assert record.hardware.device == "auto"
    assert record.hardware.embedding == "sparse"  # of its parameters, and so of its checkpoint
    assert record.dataset.min_rating == 2  # nothing else of the data is this machine's
