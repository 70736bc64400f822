"""Whole runs on a small synthetic log: every verb, both families, through the one call scripts use."""

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.metrics.table import metric_names
from seqrec_cli.reporting.run_folder import RunFolder, read_rows

TINY = [
    "dataset=synthetic",
    "dataset.users=120",
    "dataset.items=60",
    "dataset.max_events=30",
    "trainer.max_epochs=3",
    "trainer.patience=null",
    "model.max_length=20",
]
SMALL_MODEL = ["model.embed_dim=16", "model.blocks=1", "model.heads=2", "model.ffn_dim=32"]
METRICS = set(metric_names((5, 10, 20)))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


def train(base: Path, name: str, *overrides: str) -> dict:
    return seqrec_cli.run("train", [*TINY, f"data_dir={base / 'data'}", f"run_dir={base / name}", *overrides])


@pytest.fixture(scope="module")
def sasrec(base) -> tuple[Path, dict]:
    return base / "sasrec", train(
        base, "sasrec", "model=sasrec", *SMALL_MODEL, "trainer.batch_size=16", "trainer.lr=1e-2"
    )


@pytest.fixture(scope="module")
def bst(base) -> tuple[Path, dict]:
    return base / "bst", train(base, "bst", "model=bst", *SMALL_MODEL, "trainer.batch_size=64")


def test_a_run_leaves_everything_a_reader_needs(sasrec) -> None:
    folder, result = sasrec
    names = {p.name for p in folder.iterdir()}
    files = {
        "config.yaml",
        "manifest.json",
        "metrics.json",
        "metrics.jsonl",
        "best.pt",
        "last.pt",
        "curves.png",
        "DONE",
    }
    assert files | {"ranks_val.parquet", "ranks_test.parquet", "tensorboard"} <= names
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["test"]) == METRICS
    assert set(metrics["val"]) == METRICS | {"loss"}
    assert metrics["test"] == result["test"]
    assert set(metrics["baselines"]) == {"random", "popular", "markov", "itemknn", "graph", "oracle"}
    manifest = json.loads((folder / "manifest.json").read_text())
    for key in ("versions", "seed", "hardware", "data", "wall_seconds", "first_step_seconds"):
        assert key in manifest, key
    assert [json.loads(row)["epoch"] for row in (folder / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3]


def test_metrics_follow_from_the_saved_ranks(sasrec) -> None:
    folder, result = sasrec
    ranks = pq.read_table(folder / "ranks_test.parquet").to_pydict()
    hits = [rank <= 10 for rank in ranks["rank"]]
    gains = [1 / math.log2(rank + 1) if hit else 0.0 for rank, hit in zip(ranks["rank"], hits, strict=True)]
    assert result["test"]["hr@10"] == pytest.approx(sum(hits) / len(hits), abs=1e-12)
    assert result["test"]["ndcg@10"] == pytest.approx(sum(gains) / len(gains), abs=1e-9)
    assert len(hits) == 120


def test_learning_beats_chance_and_the_oracle_stays_ahead(sasrec) -> None:
    _, result = sasrec
    assert result["test"]["corpus_auc"] > 0.55
    assert result["baselines"]["oracle"]["ndcg@10"] > result["baselines"]["markov"]["ndcg@10"]
    assert result["baselines"]["oracle"]["ndcg@10"] > result["test"]["ndcg@10"]


def test_the_same_command_gives_the_same_numbers(base, sasrec) -> None:
    again = train(base, "again", "model=sasrec", *SMALL_MODEL, "trainer.batch_size=16", "trainer.lr=1e-2")
    assert again["test"] == sasrec[1]["test"]
    assert again["val"] == sasrec[1]["val"]


def test_a_ranker_gets_both_tables(bst) -> None:
    folder, result = bst
    assert set(result["test"]) == METRICS
    assert all(math.isfinite(value) for value in result["test"].values())
    assert result["val"]["auc"] > 0.5
    assert (folder / "DONE").exists()


@pytest.mark.parametrize("model", ["popular", "markov"])
def test_counting_models_run_like_any_other(base, model) -> None:
    result = train(base, model, f"model={model}")
    assert result["test"] == pytest.approx(result["baselines"][model])
    again = seqrec_cli.run("evaluate", [f"ckpt={base / model}"])
    assert again["test"] == result["test"]


@pytest.mark.parametrize("family", ["sasrec", "bst"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluate_repeats_the_numbers_exactly(request, family, split) -> None:
    folder, result = request.getfixturevalue(family)
    assert seqrec_cli.run("evaluate", [f"ckpt={folder}", f"split={split}"])[split] == result[split]


def test_evaluate_takes_a_file_and_writes_where_it_is_told(base, sasrec) -> None:
    folder, result = sasrec
    found = seqrec_cli.run("evaluate", [f"ckpt={folder / 'best.pt'}", f"run_dir={base / 'again-evaluated'}"])
    assert found["test"] == result["test"]
    assert json.loads((base / "again-evaluated" / "metrics.json").read_text())["test"] == result["test"]
    assert (base / "again-evaluated" / "ranks_test.parquet").exists()


def test_evaluate_refuses_other_data(base, sasrec) -> None:
    other = torch.load(sasrec[0] / "best.pt", weights_only=True)
    other["fingerprint"] = "0" * 64
    torch.save(other, base / "foreign.pt")
    with pytest.raises(SeqrecError, match="data differ"):
        seqrec_cli.run("evaluate", [f"ckpt={base / 'foreign.pt'}"])


@pytest.mark.parametrize("family", ["sasrec", "bst"])
def test_export_proves_itself(request, base, family) -> None:
    folder, _ = request.getfixturevalue(family)
    written = seqrec_cli.run("export", [f"ckpt={folder}", "format=torch", f"out={base / ('export-' + family)}"])
    assert written["max_difference"] < 1e-4
    assert {"model.pt2", "items.parquet", "signature.json"} <= {p.name for p in (base / f"export-{family}").iterdir()}


def test_resume_goes_on_to_the_same_end(base, sasrec, capsys) -> None:
    sizes = ["model=sasrec", *SMALL_MODEL, "trainer.batch_size=16", "trainer.lr=1e-2"]
    flags = [*sizes, "trainer.schedule=constant", "trainer.warmup_steps=2"]  # rates that do not follow from the length
    train(base, "short", *flags, "trainer.max_steps=4")
    whole = train(base, "whole", *flags)
    short = RunFolder.open(base / "short")
    first, rows = short.config_yaml.read_bytes(), read_rows(short.metrics_jsonl)
    with short.metrics_jsonl.open("a") as file:
        file.write('{"epoch": 2, "st')  # as a machine leaves it whose disk was full
    capsys.readouterr()
    resumed = seqrec_cli.run("train", [f"resume={base / 'short'}", "trainer.max_steps=null"])
    assert resumed["test"] == whole["test"]
    assert Path(resumed["run_dir"]) == base / "short"
    assert "the last row was cut, and is left out" in capsys.readouterr().out
    assert [row["epoch"] for row in read_rows(short.metrics_jsonl)][: len(rows)] == [row["epoch"] for row in rows]
    # What has trained stays written, and what changed since.
    assert short.config_yaml.read_bytes() == first
    assert short.read_manifest()["resumed"] == [{"from_step": 4, "changed": {"trainer.max_steps": None}}]


def test_a_folder_that_is_trained_into_is_no_other_runs(base, sasrec) -> None:
    folder = RunFolder.open(sasrec[0])
    before = folder.last.read_bytes(), folder.config_yaml.read_bytes()
    with folder.training():
        with pytest.raises(SeqrecError, match=r"another process is training into .*; wait for it"):
            seqrec_cli.run("train", [f"resume={folder.path}", "trainer.max_epochs=5"])
        assert seqrec_cli.run("evaluate", [f"ckpt={folder.path}", "split=val"])["val"] == sasrec[1]["val"]
    assert (folder.last.read_bytes(), folder.config_yaml.read_bytes()) == before


def test_resume_keeps_the_model(base, sasrec) -> None:
    with pytest.raises(SeqrecError, match="model=bst"):
        seqrec_cli.run("train", [f"resume={sasrec[0]}", "model=bst"])


def test_preprocess_twice_does_nothing_and_says_so(base, capsys) -> None:
    overrides = [
        "dataset=synthetic",
        "dataset.users=120",
        "dataset.items=60",
        "dataset.max_events=30",
        f"data_dir={base / 'data'}",
    ]
    seqrec_cli.run("preprocess", overrides)
    capsys.readouterr()
    found = seqrec_cli.run("preprocess", overrides)
    assert "nothing to do" in capsys.readouterr().out
    assert found["users"] == 120


def test_sizes_and_pairs_are_checked_before_anything_is_written(base) -> None:
    with pytest.raises(SeqrecError, match=r"embed_dim.*heads"):
        train(base, "never", "model=sasrec", "model.embed_dim=10", "model.heads=4")
    with pytest.raises(SeqrecError, match="cannot train"):
        train(base, "never", "model=bst", "objective=next_item")
    assert not (base / "never").exists()
