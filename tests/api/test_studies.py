"""`tune` in Python: the study that the command line would make, its trials as a frame."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqrec_cli
from seqrec_cli import SeqrecError
from seqrec_cli.api import studies
from seqrec_cli.config.tuning import TuneConfig
from tests.api.conftest import TINY
from tests.api.test_datasets import log, made

pytest.importorskip("optuna")
SPACE = {
    "trainer.lr": {"type": "float", "low": 1e-3, "high": np.float64(1e-2), "log": True},
    "objective": {"type": "choice", "values": ["next_item", "gbce"]},
    "objective.t": {"type": "float", "low": 0.5, "high": 1.0, "when": {"objective": "gbce"}},
}


def test_a_study_comes_back_with_its_trials(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {**TINY, "data_dir": base / "data", "trials": 3, "pruner": "none"}
    found = seqrec_cli.tune(settings, space=SPACE, run_dir=base / "study", verbose=False)
    assert capsys.readouterr().out == ""
    assert found.folder == base / "study"
    table = found.trials
    assert table["trial"].tolist() == [0, 1, 2]
    assert table["state"].tolist() == ["complete"] * 3
    assert set(SPACE) < set(table.columns)
    applies = table["objective"] == "gbce"
    assert table["objective.t"].notna().tolist() == applies.tolist()
    best = table.loc[table["ndcg@10"].idxmax()]
    assert found.settings["trainer.lr"] == best["trainer.lr"]
    assert found.metrics["val"]["ndcg@10"] == best["ndcg@10"]
    assert "test" not in found.metrics
    assert "table" not in found.metrics
    assert found.run_dir == base / "study" / "trials" / f"{best['trial']:04d}"
    assert found.load().config["trainer"]["lr"] == best["trainer.lr"]
    assert f"{best['trainer.lr']}" in repr(found)
    assert len(repr(found).splitlines()) == 1  # a notebook shows it; the frame and the metrics are asked for

    # What was given as a mapping is a file that the command line finds, and the same call goes on with the study.
    told = json.loads((base / "study" / "study.json").read_text())
    assert "space=given" in told["given"]
    assert (Path(told["config_dir"]) / "space" / "given.yaml").is_file()
    again = seqrec_cli.tune(settings, space=SPACE, run_dir=base / "study", verbose=False)
    assert again.trials.equals(table)
    with pytest.raises(SeqrecError, match="is a study of other space"):
        seqrec_cli.tune(settings, space={"trainer.lr": SPACE["trainer.lr"]}, run_dir=base / "study", verbose=False)


@pytest.mark.parametrize(
    ("settings", "told", "says"),
    [
        (["trials=0"], {}, "tune.trials"),
        (["samplr=tpe"], {}, "samplr"),
        ([], {"space": "sasreck"}, "sasreck.*did you mean 'sasrec'"),
        (["space=sasrec"], {"space": "din"}, "^space is given twice"),
        ([], {"space": {}}, "^space: the mapping has no entries; leave it out"),
        ([], {"space": ["trainer.lr"]}, "^space: a list is none; give the name of one, or a mapping of its entries$"),
        ([], {"space": {"trainer.lrr": SPACE["trainer.lr"]}}, "trainer.lrr: no such key; did you mean 'trainer.lr'"),
        ([], {"space": {"trainer.lr": {"type": "choice", "values": [object()]}}}, "is no value of a setting"),
        ([], {"space": {"trainer.lr": 3}}, "trainer.lr"),
        ([], {"dataset": 3}, "^dataset: a int is none yet"),
    ],
)
def test_a_wrong_study_is_refused_in_one_line(settings: list[str], told: dict[str, Any], says: str, base: Path) -> None:
    with pytest.raises(SeqrecError, match=says) as refusal:
        seqrec_cli.tune([*settings, f"data_dir={base / 'data'}"], run_dir=base / "refused", **told)
    assert "\n" not in str(refusal.value)
    assert not (base / "refused").exists()


def test_a_whole_configuration_is_no_study(sasrec: "seqrec_cli.Trained") -> None:
    with pytest.raises(SeqrecError, match="tune takes overrides"):
        seqrec_cli.tune(sasrec.config)


def test_a_study_of_a_frame_is_of_its_data_and_says_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[TuneConfig] = []

    def interrupted(verb: str, record: TuneConfig) -> dict[str, Any]:
        asked.append(record)
        return {"interrupted": True, "run_dir": "study"}

    monkeypatch.setattr(studies, "run_record", interrupted)
    data = made(log(), tmp_path, name="mine")
    with pytest.raises(KeyboardInterrupt, match="the same call with run_dir='study' goes on with it"):
        seqrec_cli.tune(["trials=2"], space={"trainer.lr": SPACE["trainer.lr"]}, dataset=data, verbose=False)
    (record,) = asked
    assert (record.dataset.name, record.data_dir) == ("mine", data.data_dir)
    assert record.protocol.name == "leave_last"
    assert list(record.space) == ["trainer.lr"]
    assert record.config_dir is not None
    assert Path(record.config_dir).is_relative_to(data.data_dir)  # for workers, and to go on with it another day
    assert "space=given" in record.given
