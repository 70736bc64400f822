"""`objective=unbiased_click` and `seqrec counterfactual`, on lists of a known policy in the form of trivago's log."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqrec_cli
from scripts import logged_policy
from seqrec_cli.commands import corrected_labels, training_setup
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.evaluation.logged.position_bias import harvested
from seqrec_cli.evaluation.stored import StoredClicks
from seqrec_cli.models.contract import Recommender
from seqrec_cli.protocols.view.build import with_view

TINY = ["dataset=trivago", "model=din", "model.embed_dim=8", "model.unit=[8]", "model.max_length=10", "trainer=click"]
TINY += ["trainer.max_epochs=1", "trainer.batch_size=64", "evaluation.ranked_users=3", "evaluation.baselines=false"]
TINY += ["hardware.threads=1", "hardware.precision=fp32"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base: Path = tmp_path_factory.mktemp("logged")
    logged_policy.write(base / "log", requests=6_000, seed=0)
    return base


@pytest.fixture(scope="module")
def given(base: Path) -> list[str]:
    return [*TINY, f"dataset.archive={base / 'log'}", f"data_dir={base / 'data'}"]


@pytest.fixture(scope="module")
def run(base: Path, given: list[str]) -> Path:
    folder: Path = base / "run"
    seqrec_cli.run("train", [*given, "objective=unbiased_click", "objective.clip=5", f"run_dir={folder}"])
    return folder


def config(given: list[str], *more: str) -> TrainConfig:
    cfg = validate("train", compose("train", [*given, *more]))
    assert isinstance(cfg, TrainConfig)
    return cfg


def batch_labels(cfg: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """Of the first batch: clicks by place of all lists of the log, and the labels that train."""
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), print), cfg.protocol, print)
    cpu = training_setup.torch.device("cpu")
    rows = training_setup.training_rows(cfg, training_setup.objective_for(cfg, log, cpu), log, device=cpu)
    labels_BC = next(iter(rows.epoch(0))).labels_BC
    assert labels_BC is not None
    return harvested(log.clicks["train"]), labels_BC.numpy()


def test_labels_are_corrected_by_the_log_s_own_chances(given: list[str]) -> None:
    looked_K, labels_BC = batch_labels(config(given, "objective=unbiased_click", "objective.clip=3"))
    clicked = labels_BC > 0
    assert clicked.sum(axis=1).tolist() == [1] * len(labels_BC)
    assert labels_BC[clicked] == pytest.approx(np.minimum(1 / looked_K, 3)[np.nonzero(clicked)[1]], rel=1e-5)
    assert 3 in labels_BC
    given_too = "objective=unbiased_click", "objective.propensities=[1,0.5]", "objective.clip=3"
    assert set(np.unique(batch_labels(config(given, *given_too))[1])) == {0, 1, 2}
    assert set(np.unique(batch_labels(config(given, "objective=click"))[1])) == {0, 1}


def test_an_outcome_run_makes_them_doubly_robust(given: list[str], run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = [
        "objective=unbiased_click",
        "objective.propensities=[1,0.5]",
        "objective.clip=1",
        f"objective.outcome={run}",
    ]
    _, labels_BC = batch_labels(config(given, *more))
    assert len(np.unique(labels_BC)) > 50  # of an outcome model, where the bound of 1 leaves room for it

    def halves(model: Recommender, log: PackedLog, split: str, **_: Any) -> np.ndarray:
        assert not model.training
        return np.full(log.clicks[split].items_RC.shape, 0.5)

    monkeypatch.setattr("seqrec_cli.evaluation.logged.relevance.probabilities", halves)
    first_K, later_K = batch_labels(config(given, *more))[1][:, 0], batch_labels(config(given, *more))[1][:, 1]
    assert set(np.unique(first_K)) <= {0, 1}  # r + c - r
    assert set(np.unique(later_K)) <= {0.25, 1.25}  # r + c - r / 2


def test_estimates_of_a_run(run: Path, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = [f"outcome={run}", "cutoffs=[1,2]", "clip=4", f"run_dir={tmp_path / 'out'}", "split=val"]
    found = seqrec_cli.run("counterfactual", [f"ckpt={run}", *more])
    assert json.loads((tmp_path / "out" / "counterfactual.json").read_text()) == json.loads(json.dumps(found))
    assert set(found["estimates"]) == {"mrr", "dcg", "top@1", "top@2"}
    assert set(found["estimates"]["mrr"]) == {"naive", "ips", "snips", "direct", "dr"}
    clicks = StoredClicks.read(run / "clicks_val.parquet")
    places_N = np.concatenate([np.arange(1, 11)] * (len(clicks.labels_N) // 10))
    naive = found["estimates"]["mrr"]["naive"]
    assert naive["shown"] == pytest.approx((clicks.labels_N / places_N).sum() * 10 / len(places_N))
    relevance_N = 1 / (1 + np.exp(-clicks.logits_N))  # of the outcome run, which is this one
    direct = found["estimates"]["mrr"]["direct"]
    assert direct["shown"] == pytest.approx((relevance_N / places_N).sum() * 10 / len(places_N), rel=1e-5)
    of_training_K, _ = batch_labels(config(given, "objective=click"))
    assert found["propensities"] == pytest.approx(of_training_K.tolist())  # not of the lists that are judged
    looked_N = np.array(found["propensities"])[places_N - 1]
    ips_N = clicks.labels_N * np.minimum(1 / looked_N, 4)
    assert found["estimates"]["top@1"]["ips"]["shown"] == pytest.approx(
        (ips_N * (places_N == 1)).sum() * 10 / len(ips_N)
    )
    assert found["clipped_clicks"] == int(((clicks.labels_N > 0) & (looked_N < 1 / 4)).sum()) > 0
    assert found["requests"] == found["clicks"] == len(places_N) // 10
    printed = capsys.readouterr().out
    assert f"{found['estimates']['mrr']['dr']['order']:.4f}" in printed
    assert f"{found['propensities'][1]:.3f}" in printed


def test_given_chances_reach_the_estimates(run: Path) -> None:
    found = seqrec_cli.run("counterfactual", [f"ckpt={run}", "propensities=[1,0.5]", "split=val"])
    assert found["propensities"] == [1, *[0.5] * 9]
    assert set(found["estimates"]["dcg"]) == {"naive", "ips", "snips"}


def test_the_test_is_counted_as_opened(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = len(json.loads((run / "manifest.json").read_text())["test_openings"])
    seqrec_cli.run("counterfactual", [f"ckpt={run}"])
    openings = json.loads((run / "manifest.json").read_text())["test_openings"]
    assert [each["by"] for each in openings[before:]] == ["counterfactual"]


def test_what_cannot_be_corrected_is_refused(given: list[str], run: Path, tmp_path: Path) -> None:
    words = ["dataset=synthetic", "dataset.users=40", "dataset.items=50", f"data_dir={tmp_path}", "model=din"]
    with pytest.raises(SeqrecError, match="objective=unbiased_click corrects logged lists, and protocol="):
        validate("train", compose("train", [*words, "objective=unbiased_click"]))
    with pytest.raises(SeqrecError, match=r"objective\.outcome="):
        batch_labels(config(given, "objective=unbiased_click", f"objective.outcome={tmp_path / 'none'}"))
    other = ["objective=unbiased_click", f"objective.outcome={run}", "protocol.seed=7"]
    with pytest.raises(SeqrecError, match="other data or another protocol"):
        corrected_labels.with_corrected_labels(
            config(given, *other),
            with_view(
                prepare(config(given).dataset, Path(config(given).data_dir), print),
                config(given, *other).protocol,
                print,
            ),
        )
    seqrec_cli.run("train", [*words, "trainer.max_epochs=1", f"run_dir={tmp_path / 'plain'}"])
    with pytest.raises(SeqrecError, match="has no lists that were shown"):
        seqrec_cli.run("counterfactual", [f"ckpt={tmp_path / 'plain'}"])
