"""`seqrec evaluate candidates=`: one checkpoint among the corpus and among sampled items, and runs that sample."""

import json
from pathlib import Path

import pytest

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError

TINY = ["dataset=synthetic", "dataset.users=80", "dataset.items=60", "dataset.max_events=15", "model=markov"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("candidates")
    for name, words in {"full": [], "sampled": ["protocol.candidates=uniform:20"]}.items():
        seqrec_cli.run("train", [*TINY, *words, f"data_dir={base / 'data'}", f"run_dir={base / name}"])
    return base


def saved(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_one_checkpoint_by_several_kinds_prints_one_table(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = "candidates=[full,uniform:20,popularity:20]"
    seqrec_cli.run("evaluate", [f"ckpt={base / 'full'}", kinds, f"run_dir={base / 'several'}"])
    found = saved(base / "several")
    assert list(found["candidates"]) == ["full", "uniform:20", "popularity:20"]
    assert found["protocol"]["candidates"] == "whole corpus"
    assert found["candidates"]["full"]["metrics"]["ndcg@10"] == saved(base / "full")["test"]["ndcg@10"]
    uniform = found["candidates"]["uniform:20"]
    assert uniform["metrics"]["ndcg@10"] > found["test"]["ndcg@10"]
    printed = capsys.readouterr().out
    for label, value in (("uniform:20", uniform["metrics"]["mrr"]), ("CLS", uniform["corrected"]["CLS"]["mrr"])):
        line = next(line for line in printed.splitlines() if line.strip().startswith(label))
        assert f"{value:.4f}" in line


def test_a_run_that_samples_says_so_and_is_not_compared_with_one_that_does_not(base: Path) -> None:
    full, sampled = saved(base / "full"), saved(base / "sampled")
    assert sampled["protocol"]["candidates"] == "uniform:20"
    assert sampled["protocol"]["fingerprint"] != full["protocol"]["fingerprint"]
    assert sampled["test"]["hr@10"] > full["test"]["hr@10"]
    # The random scorer's rank is one of 21.
    assert sampled["baselines"]["random"]["hr@10"] == pytest.approx(10 / 21)
    with pytest.raises(SeqrecError, match="differ in"):
        seqrec_cli.run("compare", [f"runs=[{base / 'full'},{base / 'sampled'}]"])


def test_the_same_draws_come_from_either_run(base: Path) -> None:
    """A checkpoint measured by sampled candidates is in the protocol of a run that was trained with them."""
    seqrec_cli.run("evaluate", [f"ckpt={base / 'full'}", "candidates=uniform:20", f"run_dir={base / 'one'}"])
    one, sampled = saved(base / "one"), saved(base / "sampled")
    assert one["protocol"] == sampled["protocol"]
    assert one["test"]["ndcg@10"] == sampled["test"]["ndcg@10"]
    again = seqrec_cli.run("evaluate", [f"ckpt={base / 'sampled'}"])  # null: as the run was measured
    assert again["test"]["ndcg@10"] == sampled["test"]["ndcg@10"]
    back = seqrec_cli.run("evaluate", [f"ckpt={base / 'sampled'}", "candidates=full"])
    assert back["protocol"]["fingerprint"] == saved(base / "full")["protocol"]["fingerprint"]


@pytest.mark.parametrize("kind", ["uniform", "uniform:0", "popular:100", "[]"])
def test_other_kinds_are_refused(base: Path, kind: str) -> None:
    with pytest.raises(SeqrecError, match="candidates"):
        seqrec_cli.run("evaluate", [f"ckpt={base / 'full'}", f"candidates={kind}"])
