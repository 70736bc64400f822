"""`model=auto`: a run like any other, whose manifest says what was tried."""

import json
from pathlib import Path
from typing import Any

import pytest

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.training import closed_form

SMALL = ["dataset=synthetic", "dataset.users=120", "dataset.items=40", "dataset.max_events=15", "model=auto"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portfolio")
    words = [
        "model.candidates=[popular,markov,itemknn,graph,sasrec]",
        "trainer.max_steps=20",
        f"data_dir={folder / 'data'}",
    ]
    seqrec_cli.run("train", [*SMALL, *words, "evaluation.test=none", f"run_dir={folder / 'run'}"])
    return folder / "run"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_it_is_at_or_above_all_that_it_tried(run: Path) -> None:
    tried, found = read(run / "manifest.json")["portfolio"], read(run / "metrics.json")
    assert list(tried) == ["popular", "markov", "itemknn", "graph", "sasrec"]
    best = max(each["ndcg@10"] for each in tried.values())
    assert found["val"]["ndcg@10"] >= best
    counted = [each["ndcg@10"] for name, each in found["baselines_val"].items() if name != "oracle"]
    assert found["val"]["ndcg@10"] >= max(counted)
    assert tried["graph"]["ndcg@10"] == pytest.approx(found["baselines_val"]["graph"]["ndcg@10"])
    assert sum(each.get("weight", 0) for each in tried.values()) == pytest.approx(1, abs=1e-3)
    assert (run / "members" / "sasrec" / "DONE").is_file()


def test_its_checkpoint_is_measured_again_and_answers(run: Path, tmp_path: Path) -> None:
    again = seqrec_cli.run("evaluate", [f"ckpt={run}", "split=val", f"run_dir={tmp_path / 'again'}"])
    assert again["val"]["ndcg@10"] == pytest.approx(read(run / "metrics.json")["val"]["ndcg@10"], abs=1e-6)
    assert len(seqrec_cli.load(run).recommend(histories=[["1", "2", "3"]], top=5)) == 5


def test_what_cannot_fit_and_what_has_no_time_left_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(closed_form, "available_memory", lambda device: 1000)
    words = ["model.candidates=[popular,itemknn,sasrec]", "trainer.minutes=0.0001", f"data_dir={tmp_path / 'data'}"]
    words += ["evaluation.baselines=false", f"run_dir={tmp_path / 'run'}"]
    with pytest.raises(SeqrecError, match="none of them could be tried"):
        seqrec_cli.run("train", [*SMALL, *words, "model.candidates=[itemknn,sasrec]"])
    said = capsys.readouterr().out
    assert "auto: sasrec: left out, trainer.minutes=0.0001 are over" in said


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("trainer.seeds=2", "trainer.seeds"),
        ("trainer.monitor=loss", "trainer.monitor=loss"),
        ("model.candidates=[din]", "din is no causal encoder"),
        ("model.candidates=[auto]", "auto is no model to try"),
        ("trainer.lr=0.1", "trainer.lr"),
    ],
)
def test_what_it_cannot_do_is_refused(word: str, line: str) -> None:
    with pytest.raises(SeqrecError, match=line.replace("[", r"\[")):
        seqrec_cli.run("train", [*SMALL, word])
