"""The commands that a study's folder tells."""

import shlex
from pathlib import Path

from seqrec_cli.tuning.folder import StudyFolder
from seqrec_cli.tuning.records import TrialRecord


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
