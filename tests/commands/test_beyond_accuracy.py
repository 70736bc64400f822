"""Metrics of top lists through whole runs: measured where asked for, monitored, listed; other cutoffs at `evaluate`."""

import json
from pathlib import Path

import numpy as np
import pytest

import seqrec_cli
from seqrec_cli.cli import main
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.metrics.table import METRICS

SMALL = ["dataset=synthetic", "dataset.users=60", "dataset.items=40", "dataset.max_events=15", "model=markov"]
KINDS = ("coverage", "novelty", "average_popularity", "gini", "head_share", "diversity:category")
KINDS += ("calibration:category", "owner_correlation", "owner_imbalance")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("lists")


@pytest.fixture(scope="module")
def plain(base) -> dict:
    return seqrec_cli.run("train", [*SMALL, f"data_dir={base / 'data'}", f"run_dir={base / 'plain'}"])


@pytest.fixture(scope="module")
def lists(base) -> dict:
    more = ["dataset.owners=true", "evaluation.beyond_accuracy=true", "trainer.monitor=coverage@10"]
    return seqrec_cli.run("train", [*SMALL, *more, f"data_dir={base / 'data'}", f"run_dir={base / 'lists'}"])


def test_lists_are_measured_where_asked_for_and_change_no_rank(plain, lists, base) -> None:
    added = {f"{kind}@{k}" for kind in KINDS for k in (5, 10, 20)}
    for split in ("val", "test"):
        assert set(lists[split]) == set(plain[split]) | added
        assert {name: lists[split][name] for name in plain[split]} == plain[split]
    random = lists["baselines"]["random"]
    assert {name for name in random if name in added} == {f"{kind}@{k}" for kind in ALWAYS for k in (5, 10, 20)}
    assert lists["baselines"]["popular"]["head_share@5"] > 2 * random["head_share@5"]
    assert json.loads((base / "lists" / "metrics.json").read_text())["test"] == lists["test"]


ALWAYS = ("coverage", "novelty", "average_popularity", "head_share")  # known for a random scorer


def test_a_log_with_owners_has_the_events_of_one_without(plain, lists, base) -> None:
    folders = [
        Path(json.loads((base / run / "manifest.json").read_text())["data"]["folder"]) for run in ("plain", "lists")
    ]
    assert folders[0] != folders[1]
    for name in ("items", "offsets", "times"):
        np.testing.assert_array_equal(*(np.load(folder / f"{name}.npy") for folder in folders))
    assert not (folders[0] / "owners.npy").exists()
    owners_V1 = np.load(folders[1] / "owners.npy")
    assert owners_V1[0] == 0
    assert 1 <= owners_V1[1:].min() <= owners_V1.max() <= 60


def test_evaluate_at_other_cutoffs(plain, base) -> None:
    found = seqrec_cli.run(
        "evaluate", [f"ckpt={base / 'plain'}", "cutoffs=[1,10]", "beyond_accuracy=true", f"run_dir={base / 'again'}"]
    )["test"]
    assert found["hr@10"] == plain["test"]["hr@10"]
    assert found["hr@1"] <= found["hr@10"]
    assert "hr@5" not in found
    assert found["coverage@1"] <= found["coverage@10"]
    assert "owner_correlation@10" not in found
    run = seqrec_cli.load(base / "plain")
    assert run.evaluate(cutoffs=[1, 10], beyond_accuracy=True) == found
    assert run.evaluate() == plain["test"]
    with pytest.raises(SeqrecError, match="whole numbers from 1"):
        run.evaluate(cutoffs=[0])


def test_why_a_metric_is_absent_is_said(plain, base, capsys) -> None:
    seqrec_cli.run("evaluate", [f"ckpt={base / 'plain'}", "beyond_accuracy=true"])
    text = " ".join(capsys.readouterr().out.split())
    assert "top 10 lists" in text
    assert "not measured: owner_correlation, owner_imbalance" in text
    assert "dataset.owner_column" in text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["trainer.monitor=recall@10"], "trainer.monitor=recall@10 needs requests with several targets"),
        (
            ["trainer.monitor=owner_imbalance@5", "evaluation.beyond_accuracy=true"],
            "trainer.monitor=owner_imbalance@5 needs .*owners of the items",
        ),
        (
            ["trainer.monitor=diversity:colour@5", "evaluation.beyond_accuracy=true"],
            "did you mean 'diversity:category@5'",
        ),
        (["trainer.monitor=gini@5"], "evaluation.beyond_accuracy=true"),
    ],
)
def test_a_monitor_that_no_validation_yields_is_refused_at_once(plain, base, more, said) -> None:
    with pytest.raises(SeqrecError, match=said):
        seqrec_cli.run("train", [*SMALL, *more, f"data_dir={base / 'data'}", f"run_dir={base / 'refused'}"])
    assert not (base / "refused").exists()


def test_the_verb_lists_every_metric_and_explains_one(capsys) -> None:
    assert set(seqrec_cli.run("metrics", [])) == set(METRICS)
    text = capsys.readouterr().out
    for kind in METRICS:
        assert kind in text
    assert main(["metrics", "ndcg@10"]) == 0
    text = capsys.readouterr().out
    assert "NDCG@k = sum" in text
    assert "TOIS 2002" in text
    assert ">>>" not in text
    assert main(["metrics", "ndgc"]) == 2
    assert "did you mean 'ndcg'" in capsys.readouterr().err


def test_several_targets_a_request_bring_recall_and_its_kind(base) -> None:
    more = ["protocol=global_time", "protocol.targets=all", "evaluation.beyond_accuracy=true", "protocol.seen=keep"]
    more += ["trainer.monitor=recall@10", f"data_dir={base / 'data'}", f"run_dir={base / 'several'}"]
    test = seqrec_cli.run("train", [*SMALL, *more])["test"]
    assert test["recall@10"] < test["hr@10"]
    assert test["precision@10"] > test["hr@10"] / 10
    assert test["map"] != test["mrr"]
    assert test["coverage@20"] > 0.5
