"""Every experiment composes, is valid, and says at its top how it is run, how long it takes and what to expect."""

from pathlib import Path

import pytest

from seqrec_cli.config.compose import compose, conf_folder
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate

EXPERIMENTS = sorted((conf_folder() / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_can_run_and_says_what_it_gives(path: Path) -> None:
    cfg = validate("train", compose("train", [f"experiment={path.stem}"]))
    assert isinstance(cfg, TrainConfig)
    lines = path.read_text(encoding="utf-8").splitlines()
    header = [line for line in lines[1:] if line.startswith("#")]
    assert lines[0] == "# @package _global_"
    assert any(f"seqrec train experiment={path.stem}" in line for line in header)
    measured = any("Run time:" in line for line in header) and any("Expect" in line for line in header)
    assert measured or any("Not run here:" in line for line in header)


@pytest.mark.parametrize("member", ["sasrec", "lrurec", "gru4rec", "ease"])
def test_the_best_ensemble_is_made_of_the_experiments_it_names(member: str) -> None:
    best, alone = (validate("train", compose("train", [f"experiment=ml-1m_{name}"])) for name in ("best", member))
    assert isinstance(best, TrainConfig)
    assert isinstance(alone, TrainConfig)
    members = best.model.members  # type: ignore[attr-defined]
    assert list(members) == ["sasrec", "lrurec", "gru4rec", "ease"]
    assert members[member] == alone.model
    assert best.dataset == alone.dataset
    if member != "ease":  # which is counted, in no steps
        assert (best.objective, best.trainer) == (alone.objective, alone.trainer)
