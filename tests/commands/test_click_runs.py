"""Whole runs of rankers that learn several targets of a user in one row, and of the same rankers a row a target."""

import json
from pathlib import Path

import pytest
import torch

import seqrec_cli
from seqrec_cli.commands.train import training_rows
from seqrec_cli.config.compose import compose
from seqrec_cli.config.validate import validate
from seqrec_cli.data.click_rows import PositionRows
from seqrec_cli.data.loader import PrefixRows
from seqrec_cli.kernels.build import compiler
from seqrec_cli.objectives.contract import build_objective
from tests.toylog import packed, random_histories

TINY = [
    "dataset=synthetic",
    "dataset.users=120",
    "dataset.items=60",
    "dataset.max_events=30",
    "trainer.max_epochs=2",
    "trainer.batch_size=64",
    "trainer.lr=5e-3",
    "evaluation.baselines=false",
    "model.max_length=10",
]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("click")


def train(base: Path, name: str, *overrides: str) -> dict:
    return seqrec_cli.run("train", [*TINY, f"data_dir={base / 'data'}", f"run_dir={base / name}", *overrides])


def test_din_learns_evaluates_again_and_exports(base) -> None:
    result = train(base, "din", "model=din", "model.unit_activation=dice")
    assert result["val"]["auc"] > 0.52
    assert seqrec_cli.run("evaluate", [f"ckpt={base / 'din'}"])["test"] == result["test"]
    written = seqrec_cli.run("export", [f"ckpt={base / 'din'}", "format=torch", f"out={base / 'export'}"])
    assert written["max_difference"] < 1e-4


@pytest.mark.skipif(compiler() is None, reason="no C compiler here")
def test_the_manifest_says_which_kernels_ran_in_this_run(base) -> None:
    """Runs of one process (a sweep, several seeds) each tell of their own."""
    ran = []
    for on in ("true", "false"):
        train(base, f"kernels_{on}", "model=din", "trainer.max_epochs=1", f"hardware.kernels={on}")
        ran.append(json.loads((base / f"kernels_{on}" / "manifest.json").read_text())["kernels"])
    assert "prelu_dice" in ran[0]
    assert ran[1] == []


@pytest.mark.parametrize("name", ["dsin", pytest.param("widedeep", marks=pytest.mark.exhaustive)])
def test_other_rankers_learn_and_export(base, name: str) -> None:
    result = train(base, name, f"model={name}", "model.embed_dim=8")
    assert result["val"]["auc"] > 0.52
    written = seqrec_cli.run("export", [f"ckpt={base / name}", "format=torch", f"out={base / name}_export"])
    assert written["max_difference"] < 1e-4


def test_dien_learns_with_its_auxiliary_loss_evaluates_again_and_exports(base) -> None:
    result = train(base, "dien", "model=dien", "model.embed_dim=8")
    assert result["val"]["auc"] > 0.52
    assert seqrec_cli.run("evaluate", [f"ckpt={base / 'dien'}"])["test"] == result["test"]
    written = seqrec_cli.run("export", [f"ckpt={base / 'dien'}", "format=torch", f"out={base / 'dien_export'}"])
    assert written["max_difference"] < 1e-4


def test_an_interrupted_run_goes_on_with_the_same_running_statistics(base) -> None:
    # The same rates, however long the run.
    same = ("model=avgpool", "trainer.schedule=constant", "trainer.warmup_steps=3")
    whole = train(base, "whole", *same)
    train(base, "half", *same, "trainer.max_epochs=1")
    seqrec_cli.run("train", [f"resume={base / 'half'}", "trainer.max_epochs=2"])
    first, second = (torch.load(base / name / "last.pt", weights_only=True)["model"] for name in ("whole", "half"))
    assert "mlp.activations.0.running_mean" in first
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert whole["test"]["hr@10"] >= 0


@pytest.mark.parametrize(
    ("overrides", "kind"),
    [
        (["model=din"], PositionRows),
        (["model=avgpool"], PositionRows),
        (["model=dien"], PositionRows),
        (["model=din", "objective.positions=false"], PrefixRows),
        (["model=bst"], PrefixRows),
        (["model=dsin"], PrefixRows),
    ],
)
def test_rows_of_several_targets_where_model_and_settings_allow(overrides: list[str], kind: type) -> None:
    cfg = validate("train", compose("train", overrides))
    rows = training_rows(
        cfg, build_objective(cfg.objective), packed(random_histories(9, 30, 20), 30), device=torch.device("cpu")
    )  # type: ignore[attr-defined, arg-type]
    assert type(rows) is kind
