"""`seqrec train hardware.table=sharded` by two processes: its files, its numbers, and what other verbs make of them."""

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from seqrec_cli import cli
from seqrec_cli.training.checkpoint import FORMAT, SHARDED, load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    *("dataset=synthetic", "dataset.users=60", "dataset.items=40", "dataset.max_events=12", "model=sasrec"),
    *("model.embed_dim=8", "model.heads=2", "model.blocks=1", "model.max_length=12", "model.dropout=0"),
    *("model.attention_dropout=0", "hardware.precision=fp32", "hardware.threads=1", "evaluation.baselines=false"),
    *("trainer.max_epochs=2", "trainer.batch_size=16", "trainer.patience=null"),
]


def by_two(python: list[str], *words: str) -> str:
    """What the first of two processes says, started with the variables that torchrun sets."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [*python, "-m", "seqrec_cli", "train", *words],
            env={**os.environ, **group, "PYTHONPATH": str(ROOT), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=180)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    return said[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def sharded(folder: Path, python: list[str]) -> Path:
    by_two(python, *TINY, f"data_dir={folder / 'data'}", f"run_dir={folder / 'two'}", "hardware.table=sharded")
    return folder / "two"


def numbers(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text())["test"]
    return found


def test_a_sharded_run_has_the_numbers_of_one_process(folder: Path, sharded: Path) -> None:
    said = folder / "one"
    assert cli.main(["train", *TINY, f"data_dir={folder / 'data'}", f"run_dir={said}"]) == 0
    assert numbers(sharded) == pytest.approx(numbers(said), rel=1e-4)
    parameters = [json.loads((run / "manifest.json").read_text())["parameters"] for run in (sharded, said)]
    assert parameters[0] == parameters[1]


def test_its_last_checkpoint_is_in_shards_and_its_best_is_one_file(sharded: Path) -> None:
    (shards,) = (sharded / "shards").iterdir()
    assert {file.name for file in shards.iterdir()} == {".metadata", "__0_0.distcp", "__1_0.distcp"}
    last, best = (torch.load(sharded / name, weights_only=True) for name in ("last.pt", "best.pt"))
    assert (last["format"], best["format"]) == (SHARDED, FORMAT)
    assert last["model"]["items.weight"] == {"rows_in": shards.name, "key": "model/items.weight"}
    assert best["model"]["items.weight"].shape == (41, 8)
    assert load_checkpoint(sharded / "last.pt")["model"]["items.weight"].shape == (41, 8)


def test_a_checkpoint_in_shards_is_evaluated_as_any_other(
    sharded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`best.pt` in shards, as a run leaves it that was killed or whose tables are too large for one file."""
    assert cli.main(["evaluate", f"ckpt={sharded / 'last.pt'}", "split=val"]) == 0
    assert "ndcg@10" in capsys.readouterr().out


def test_one_process_that_shares_with_nobody_says_so(
    folder: Path, sharded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY, f"data_dir={folder / 'data'}", f"run_dir={folder / 'alone'}", "trainer.max_epochs=1"]
    assert cli.main(["train", *words, "hardware.table=sharded"]) == 0
    assert "hardware.table=sharded: this process is alone and holds the tables whole" in capsys.readouterr().out
