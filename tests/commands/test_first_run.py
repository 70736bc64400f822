"""A first run with nothing set: the data settle what is written `auto`, and a weak run is told why."""

import re
from pathlib import Path

import pytest
import yaml

import seqrec_cli
from seqrec_cli.config.auto_rule import WORDS, rule

LOG = ["dataset.users=80", "dataset.items=50", "hardware.threads=1", "evaluation.test=none", "model.max_length=10"]


def test_the_data_settle_the_run_which_is_sealed_in_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["trainer.max_epochs=1", "trainer.warmup_steps=100", f"data_dir={tmp_path}"]
    seqrec_cli.run("train", [*LOG, *given, f"run_dir={tmp_path / 'run'}"])
    said = capsys.readouterr().out
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["auto"] == {}
    words = [value for group in config.values() if isinstance(group, dict) for value in group.values()]
    assert not {str(value) for value in words} & {*WORDS} - {
        config["hardware"]["device"],
        config["hardware"]["precision"],
    }
    least, most = rule().kinds["encoder"].batch_size
    assert least <= config["trainer"]["batch_size"] < most  # 128 would be one step an epoch
    assert config["trainer"]["max_epochs"] == 1
    assert f"trainer.batch_size={config['trainer']['batch_size']}" in said
    assert "trainer.max_epochs=" not in said.partition("auto:")[2].splitlines()[0]  # what was given is not settled
    assert "WARNING: sasrec is below" in said
    assert "of them warm-up" in said
    settled_by, too_few = re.findall(r"([\d,]+) training events", said)
    assert settled_by == too_few


def test_a_plan_is_of_the_settled_run(tmp_path: Path) -> None:
    found = seqrec_cli.run("plan", [*LOG, f"data_dir={tmp_path}"])
    seqrec_cli.run("train", [*LOG, f"data_dir={tmp_path}", f"run_dir={tmp_path / 'run'}", "trainer.max_steps=2"])
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert found["steps"]["total"] == config["trainer"]["max_epochs"] * found["steps"]["epoch"]
