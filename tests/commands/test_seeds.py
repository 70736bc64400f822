"""Repeated seeds: a run each, their mean and spread, and how they are stopped and gone on with."""

import json
from pathlib import Path

import numpy as np
import pytest

import seqrec_cli
from seqrec_cli.commands import seeds as seeds_module
from seqrec_cli.commands import train as train_module
from seqrec_cli.config.errors import SeqrecError

TINY = [
    "dataset=synthetic",
    "dataset.users=60",
    "dataset.items=40",
    "dataset.max_events=12",
    "model=sasrec",
    "model.max_length=10",
    "model.embed_dim=8",
    "model.blocks=1",
    "model.heads=1",
    "model.ffn_dim=8",
    "trainer.max_epochs=1",
    "trainer.batch_size=32",
    "trainer.schedule=constant",
    "evaluation.baselines=false",
]


def train(base: Path, name: str, *overrides: str) -> dict:
    return seqrec_cli.run("train", [*TINY, f"data_dir={base / 'data'}", f"run_dir={base / name}", *overrides])


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("seeds")


@pytest.fixture(scope="module")
def three(base) -> dict:
    return train(base, "three", "trainer.seed=5", "trainer.seeds=3")


def test_each_seed_has_the_run_it_would_have_alone(base, three) -> None:
    alone = train(base, "alone", "trainer.seed=6")
    stored = json.loads((base / "three" / "seed_6" / "metrics.json").read_text())
    assert stored["test"] == alone["test"]
    assert seqrec_cli.run("evaluate", [f"ckpt={base / 'three' / 'seed_6'}"])["test"] == alone["test"]


def test_mean_and_spread_of_every_test_metric(base, three) -> None:
    runs = [json.loads((base / "three" / f"seed_{seed}" / "metrics.json").read_text())["test"] for seed in (5, 6, 7)]
    written = json.loads((base / "three" / "seeds.json").read_text())
    assert written["seeds"] == [5, 6, 7]
    assert [run["test"] for run in written["runs"]] == runs
    for name in runs[0]:
        values = [run[name] for run in runs]
        assert written["test"][name]["mean"] == pytest.approx(np.mean(values)) == pytest.approx(three["test"][name])
        assert written["test"][name]["std"] == pytest.approx(np.std(values, ddof=1))
    assert three["spread"]["ndcg@10"] > 0
    assert three["run_dir"] == str(base / "three")


def test_the_table_shows_them(base, three, capsys) -> None:
    seqrec_cli.run("train", [f"resume={base / 'three'}"])
    out = capsys.readouterr().out
    assert "test metrics of 3 seeds" in out
    row = next(line for line in out.splitlines() if line.startswith("ndcg@10"))
    assert f"{three['test']['ndcg@10']:.4f}" in row
    assert f"{three['spread']['ndcg@10']:.4f}" in row


def test_stopped_seeds_go_on_where_they_were(base, three, monkeypatch) -> None:
    """The second run is stopped before its first epoch's end; resumed, only it and the third are trained."""
    begun: list[int] = []
    whole = train_module.main

    def stopping(cfg):
        if cfg.trainer.seeds > 1:
            return whole(cfg)  # which calls this for each seed
        begun.append(cfg.trainer.seed)
        result = whole(cfg)
        return {"interrupted": True, "run_dir": result["run_dir"]} if len(begun) == 2 else result

    monkeypatch.setattr(train_module, "main", stopping)
    stopped = train(base, "stopped", "trainer.seed=5", "trainer.seeds=3")
    assert stopped == {"interrupted": True, "run_dir": str(base / "stopped")}
    (base / "stopped" / "seed_6" / "DONE").unlink()
    (base / "stopped" / "seed_7").mkdir()  # begun, without a checkpoint
    resumed = seqrec_cli.run("train", [f"resume={base / 'stopped'}"])
    assert begun == [5, 6, 6, 7]
    assert resumed["test"] == three["test"]


def test_more_seeds_may_be_added_and_others_are_refused(base, three) -> None:
    with pytest.raises(SeqrecError, match="holds seeds 5 to 7"):
        seqrec_cli.run("train", [f"resume={base / 'three'}", "trainer.seeds=2"])
    with pytest.raises(SeqrecError, match="holds seeds 5 to 7"):
        seqrec_cli.run("train", [f"resume={base / 'three'}", "trainer.seed=0"])
    with pytest.raises(SeqrecError, match="is one run, and trainer"):
        seqrec_cli.run("train", [f"resume={base / 'three' / 'seed_5'}", "trainer.seeds=2"])
    four = seqrec_cli.run("train", [f"resume={base / 'three'}", "trainer.seeds=4"])
    assert json.loads((base / "three" / "seeds.json").read_text())["seeds"] == [5, 6, 7, 8]
    assert four["test"] != three["test"]


def test_a_model_that_counts_has_no_seeds() -> None:
    with pytest.raises(SeqrecError, match="every seed gives the same"):
        seqrec_cli.run("train", ["model=popular", "trainer.seeds=2"])


def test_seeds_hold_the_folder_of_all_of_them(base, three, monkeypatch) -> None:
    tried = []

    def beside(cfg):
        with pytest.raises(SeqrecError, match=r"another process is training into .*three; wait for it"):
            seqrec_cli.run("train", [f"resume={base / 'three'}"])
        tried.append(cfg.trainer.seed)
        return {"interrupted": True}

    monkeypatch.setattr(seeds_module, "_run", lambda cfg, seed, folder, *, train: beside(cfg))
    assert seqrec_cli.run("train", [f"resume={base / 'three'}"])["interrupted"]
    assert tried == [5]
