"""The experiments on Amazon reviews, end to end: on small files of the publisher's form, and on real ones."""

import json
from pathlib import Path

import numpy as np
import pytest

import seqrec_cli
from seqrec_cli.config.compose import compose, groups
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate

EXPERIMENTS = [name for name in groups()["experiment"] if name.startswith("amazon-")]
QUICK = [
    *("trainer.max_epochs=1", "trainer.max_steps=4", "trainer.warmup_steps=1", "trainer.batch_size=32"),
    *("evaluation.baselines=false", "evaluation.ranked_users=5", "hardware.threads=1", "model.max_length=12"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reviews and metadata in the form of 2014: 60 users, 30 items in four categories."""
    folder = tmp_path_factory.mktemp("amazon")
    rng = np.random.default_rng(0)
    reviews = []
    for user in range(60):
        for place, item in enumerate(rng.permutation(30)[: rng.integers(5, 12)]):
            line = {"reviewerID": f"U{user}", "asin": f"I{item}", "overall": 5.0, "unixReviewTime": 86_400 * place}
            reviews.append(json.dumps(line))
    metadata = [repr({"asin": f"I{k}", "categories": [["Top", f"it's {k % 4}"]]}) for k in range(30)]
    (folder / "reviews_Small_5.json").write_text("\n".join(reviews) + "\n")
    (folder / "meta_Small.json").write_text("\n".join(metadata) + "\n")
    return folder


def test_both_categories_have_both_protocols() -> None:
    for category in ("electronics", "books"):
        for protocol in ("positions", "last"):
            assert {f"amazon-{category}_{model}_{protocol}" for model in ("din", "dien")} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_its_name_says_what_it_is(name: str) -> None:
    cfg = validate("train", compose("train", [f"experiment={name}"]))
    assert isinstance(cfg, TrainConfig)
    assert name == f"amazon-{cfg.dataset.category.lower()}_{cfg.model.name}_{cfg.protocol.name}"  # type: ignore[attr-defined]
    assert cfg.model.max_length == 100
    assert cfg.trainer.monitor == "auc"


@pytest.mark.parametrize("name", ["amazon-electronics_din_positions", "amazon-books_dien_last"])
def test_runs_on_files_of_the_publishers_form(name: str, files: Path, tmp_path: Path) -> None:
    overrides = [f"dataset.archive={files}", f"data_dir={tmp_path / 'data'}", f"run_dir={tmp_path / 'run'}"]
    result = seqrec_cli.run("train", [f"experiment={name}", *overrides, *QUICK])
    protocol = result["protocol"]
    assert protocol["name"] == name.rpartition("_")[2]
    assert protocol["ranked_users"] == 5
    assert ("by user" in protocol["held_out"]) == name.endswith("last")
    assert 0 <= result["test"]["ece"] <= 1
    assert {path.name for path in (tmp_path / "run").glob("*.png")} >= {"reliability_test.png", "reliability_val.png"}
    again = seqrec_cli.run("evaluate", [f"ckpt={tmp_path / 'run'}"])
    assert again["test"] == result["test"]
    assert again["protocol"] == protocol


def test_runs_on_the_publishers_files(shared_data: Path, tmp_path: Path) -> None:
    place = shared_data / "amazon-magazine-subscriptions"
    overrides = [f"dataset.archive={place}", "dataset.edition=2018", "dataset.category=Magazine_Subscriptions"]
    overrides += [f"data_dir={tmp_path / 'data'}", f"run_dir={tmp_path / 'run'}", "trainer.monitor=ece"]
    result = seqrec_cli.run("train", ["experiment=amazon-electronics_bst_positions", *overrides, *QUICK])
    assert result["protocol"]["chosen_by"] == "ece"
    assert 0.3 < result["test"]["auc"] < 0.9


def test_the_tutorial_runs_on_its_files(shared_data: Path, tmp_path: Path) -> None:
    overrides = [f"dataset.archive={shared_data / 'amazon-magazine-subscriptions'}", "trainer.seeds=1"]
    overrides += [f"data_dir={tmp_path / 'data'}", f"run_dir={tmp_path / 'run'}", "hardware=cpu"]
    result = seqrec_cli.run("train", ["experiment=tutorial_bst", *overrides])
    assert result["protocol"]["name"] == "positions"
    assert result["test"]["auc"] == pytest.approx(0.5799, abs=0.03)  # the header's, of seed 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["protocol=positions", "protocol.click_negatives=2"], "set protocol.click_negatives=1"),
        (["protocol=positions", "objective.negatives=4"], "objective.redraw=true"),
        (
            ["protocol=last", "objective.redraw=true"],
            "its own training",
        ),
        (["protocol=impressions"], "needs logged impressions"),
    ],
)
def test_pairs_that_cannot_be_are_refused_by_name(overrides: list[str], message: str) -> None:
    with pytest.raises(SeqrecError, match=message):
        validate("train", compose("train", ["model=din", *overrides]))


def test_redrawn_negatives_may_be_several() -> None:
    overrides = ["protocol=positions"]
    validate("train", compose("train", ["model=din", *overrides, "objective.redraw=true", "objective.negatives=4"]))
