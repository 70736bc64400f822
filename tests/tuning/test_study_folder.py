"""The commands that a study's folder tells, and what makes a study another one."""

import json
import shlex
from pathlib import Path

import pytest

from seqrec_cli.commands.dispatch import record_of
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.tuning import TuneConfig
from seqrec_cli.tuning.configs import TrialConfigs
from seqrec_cli.tuning.folder import StudyFolder, command_of
from seqrec_cli.tuning.records import TrialRecord
from seqrec_cli.tuning.space import Space


def test_a_trial_is_repeated_with_its_settings_and_its_test_read(tmp_path: Path) -> None:
    given = ["model=sasrec", "trials=3", "evaluation.test=none", f"run_dir={tmp_path}", "data_dir=here"]
    record = TrialRecord(
        number=1, settings={"trainer.lr": 0.5, "model.blocks": 3}, state="complete", curve=(), best=None, followed=4,
        seconds=1.0, proposed_by="tpe", rationale="", run_dir=None, error=None, epochs=4,
    )  # fmt: skip
    words = "seqrec train model=sasrec data_dir=here trainer.lr=0.5 model.blocks=3 trainer.max_epochs=4"
    assert StudyFolder(tmp_path, tuple(given), None).train_command(record) == words


def test_the_best_settings_are_trained_beside_the_presets_that_the_study_had(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, ("model=mine", "data_dir=here"), "presets")
    words = ["seqrec", "train", "--config-dir", "presets", "experiment=best", "data_dir=here"]
    assert shlex.split(folder.experiment_command("best")) == [*words, f"hydra.searchpath=['file://{tmp_path}']"]


def begun(study: Path, *words: str) -> StudyFolder:
    given = ["dataset=ml-1m", "trials=2", f"run_dir={study}", *words]
    cfg = record_of("tune", compose("tune", given), given)
    assert isinstance(cfg, TuneConfig)
    base = TrialConfigs(command_of(given), None).record({})
    return StudyFolder.begin(cfg, base=base, space=Space({}, {}), metric="mrr", fingerprint="the same data")


def test_a_study_is_the_same_wherever_its_raw_data_lie(tmp_path: Path) -> None:
    study = tmp_path / "study"
    begun(study, "dataset.archive=here.zip", "dataset.url=https://here.example/log.zip")
    told = json.loads((study / "study.json").read_text())
    told["identity"]["settings"]["dataset"]["url"] = "https://here.example/log.zip"  # as an older version wrote
    (study / "study.json").write_text(json.dumps(told))
    begun(study, "dataset.archive=there.zip", "dataset.url=https://there.example/log.zip")
    with pytest.raises(SeqrecError, match="is a study of other settings"):
        begun(study, "dataset.archive=here.zip", "dataset.min_rating=3")


@pytest.mark.parametrize("left", ["{}", "[]", '{"identity": {}', '{"identity": {}, "given": [], "config_dir": null}'])
def test_a_damaged_description_is_told_before_data_are_prepared(left: str, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(left)
    with pytest.raises(
        SeqrecError, match=r"study\.json is damaged; the trials beside it are whole: .* name another run"
    ):
        StudyFolder.refuse_damaged(str(tmp_path))
    StudyFolder.refuse_damaged(None)
    StudyFolder.refuse_damaged(str(tmp_path / "new"))
