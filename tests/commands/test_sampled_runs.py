"""Runs with sampled softmax and row-sparse tables: they learn, repeat, resume, and leave checkpoints like any other."""

from pathlib import Path

import pytest

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError

TINY = [
    "dataset=synthetic",
    "dataset.users=120",
    "dataset.items=60",
    "dataset.max_events=30",
    "trainer.max_epochs=3",
    "trainer.patience=null",
    "trainer.schedule=constant",
    "evaluation.baselines=false",
]
SASREC = [
    "model=sasrec",
    "model.temperature=null",
    "model.dropout=0.2",
    "model.max_length=20",
    "model.embed_dim=16",
    "model.blocks=1",
    "model.heads=2",
    "model.ffn_dim=32",
    "objective=sampled_softmax",
    "objective.negatives=32",
    "objective.sampling=popularity",
    "objective.window=last",
    "hardware.embedding=sparse",
    "trainer=next_item",  # its warm-up is the same in a run of fewer steps
    "trainer.batch_size=16",
    "trainer.lr=1e-2",
]


def train(base: Path, name: str, *overrides: str) -> dict:
    return seqrec_cli.run("train", [*TINY, f"data_dir={base / 'data'}", f"run_dir={base / name}", *overrides])


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("sampled")


@pytest.fixture(scope="module")
def whole(base) -> dict:
    return train(base, "whole", *SASREC)


def test_it_learns_and_evaluate_repeats_its_numbers(base, whole) -> None:
    assert whole["test"]["corpus_auc"] > 0.55
    assert seqrec_cli.run("evaluate", [f"ckpt={base / 'whole'}"])["test"] == whole["test"]


def test_a_run_stopped_half_way_goes_on_to_the_same_numbers(base, whole) -> None:
    train(base, "short", *SASREC, "trainer.max_steps=11")
    resumed = seqrec_cli.run("train", [f"resume={base / 'short'}", "trainer.max_steps=null"])
    assert resumed["test"] == whole["test"]


def test_a_resumed_run_keeps_its_kind_of_table(base, whole) -> None:
    with pytest.raises(SeqrecError, match=r"hardware\.embedding too"):
        seqrec_cli.run("train", [f"resume={base / 'whole'}", "hardware.embedding=dense", "trainer.max_epochs=4"])


def test_a_ranker_trains_with_row_sparse_tables(base) -> None:
    narrow = ["model.embed_dim=8", "model.ffn_dim=8", "model.max_length=10", "model.user_id=true"]
    result = train(base, "bst", "model=bst", *narrow, "hardware.embedding=sparse", "trainer.max_steps=20")
    assert 0 < result["test"]["auc"] < 1
