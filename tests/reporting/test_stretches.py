"""Settings that change when a run is resumed: what has trained stays written."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import dump, validate
from seqrec_cli.reporting.run_folder import RunFolder, read_rows
from seqrec_cli.reporting.stretches import stretches_with, with_stretches

FIRST: dict[str, Any] = {"trainer": {"lr": 0.1, "max_epochs": 2, "betas": [0.9, 0.99]}, "run_dir": "a", "resume": None}


def changed(**trainer: Any) -> dict[str, Any]:
    return {"trainer": FIRST["trainer"] | trainer, "run_dir": None, "resume": "a"}


def test_a_stretch_holds_what_differs() -> None:
    assert stretches_with(FIRST, [], changed(), step=5) == []
    one = stretches_with(FIRST, [], changed(max_epochs=4), step=5)
    assert one == [{"from_step": 5, "changed": {"trainer.max_epochs": 4}}]
    two = stretches_with(FIRST, one, changed(max_epochs=4, lr=0.01, betas=[0.5, 0.9]), step=9)
    assert two == [*one, {"from_step": 9, "changed": {"trainer.lr": 0.01, "trainer.betas": [0.5, 0.9]}}]
    assert with_stretches(FIRST, two)["trainer"] == {"lr": 0.01, "max_epochs": 4, "betas": [0.5, 0.9]}
    assert FIRST["trainer"]["lr"] == 0.1


def test_what_trained_nothing_is_forgotten() -> None:
    one = stretches_with(FIRST, [], changed(lr=0.01), step=5)
    assert stretches_with(FIRST, one, changed(lr=0.02), step=5) == [{"from_step": 5, "changed": {"trainer.lr": 0.02}}]
    assert stretches_with(FIRST, one, changed(), step=5) == []


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return dump(validate("train", compose("train", ["model=popular"])))


@pytest.fixture
def run(tmp_path: Path, config: dict[str, Any]) -> RunFolder:
    folder = RunFolder.allocate(str(tmp_path / "run"), "x")
    folder.write_config(config)
    return folder


def test_a_run_folder_keeps_both(run: RunFolder, config: dict[str, Any]) -> None:
    run.write_stretch(config, 3)
    assert "resumed" not in run.read_manifest()
    run.write_stretch({**config, "trainer": config["trainer"] | {"lr": 0.5}}, 3)
    assert yaml.safe_load(run.config_yaml.read_text())["trainer"]["lr"] == config["trainer"]["lr"]
    assert run.read_config()["trainer"]["lr"] == 0.5


@pytest.mark.parametrize("text", [b"", b"[1, 2]", b"a: [1", bytes(range(256))])
def test_a_damaged_config_is_named(run: RunFolder, text: bytes) -> None:
    run.config_yaml.write_bytes(text)
    with pytest.raises(SeqrecError, match=r"config\.yaml is damaged .*; put it back from a copy"):
        run.read_config()


ROW = b'{"epoch": 1, "step": 4, "split": "val"}\n'


@pytest.mark.parametrize("cut", [b'{"epoch": 2, "st', b"\x00\x00\x00", b'{"epoch": 2}\n', b"7\n"])
def test_a_cut_last_row_is_left_out_and_that_is_said(run: RunFolder, cut: bytes) -> None:
    run.metrics_jsonl.write_bytes(ROW + cut)
    said = run.mend_metrics()
    assert said is not None
    assert said.endswith("the last row was cut, and is left out; 1 are whole")
    assert [row["step"] for row in read_rows(run.metrics_jsonl)] == [4]
    assert run.mend_metrics() is None


def test_a_damaged_row_among_others_is_refused(run: RunFolder) -> None:
    run.metrics_jsonl.write_bytes(ROW + b"{torn\n" + ROW)
    assert run.mend_metrics() is None
    with pytest.raises(SeqrecError, match=r"metrics\.jsonl is damaged \(line 2 is no row of a validation\)"):
        read_rows(run.metrics_jsonl)
    assert run.metrics_jsonl.read_bytes() == ROW + b"{torn\n" + ROW
