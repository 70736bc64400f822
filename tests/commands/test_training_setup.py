"""What a run hands on: settings to the training rows, and the right split to every evaluation.

Each of these lines could be left out, or name the other split, and a run would still end well.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import seqrec_cli
from seqrec_cli.commands.training_setup import fresh_model, training_rows
from seqrec_cli.config.compose import compose
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.objectives.contract import build_objective
from tests.toylog import packed, random_histories


def first_batch(overrides: list[str], labelled: bool = False) -> Batch:
    cfg = validate("train", compose("train", [*overrides, "model.max_length=8", "trainer.batch_size=16"]))
    log = packed(random_histories(12, 40, 20), 40, click_negatives=1)
    if labelled:  # training candidates of the dataset's own; here the validation's stand for them
        assert log.view is not None
        log = replace(log, view=replace(log.view, clicks={**log.clicks, "train": log.clicks["val"]}))
    objective = build_objective(cfg.objective)  # type: ignore[attr-defined]
    return next(training_rows(cfg, objective, log, device=torch.device("cpu")).epoch(0))  # type: ignore[arg-type]


LABELLED = ["protocol=last"]


@pytest.mark.parametrize(
    ("overrides", "labelled"),
    [([], False), (["objective.positions=false"], False), (LABELLED, True)],
    ids=["several targets a row", "a row a target", "the dataset's own candidates"],
)
@pytest.mark.parametrize("auxiliary", [1.0, 0.0])
def test_diens_auxiliary_loss_gets_its_negatives_from_every_kind_of_rows(
    overrides: list[str], labelled: bool, auxiliary: float
) -> None:
    batch = first_batch(["model=dien", f"model.auxiliary={auxiliary}", *overrides], labelled)
    if not auxiliary:
        assert batch.negatives_BLK is None
        return
    assert batch.negatives_BLK is not None
    assert batch.negatives_BLK.shape == (*batch.items_BL.shape, 1)
    assert (batch.negatives_BLK > 0).all()


@pytest.mark.parametrize(("shared", "draws"), [("sequence", 1), ("position", None)])
def test_negatives_are_drawn_for_a_history_or_for_each_position(shared: str, draws: int | None) -> None:
    batch = first_batch(["objective=bce", f"objective.shared={shared}", "objective.negatives=3"])
    assert batch.negatives_BLK is not None
    assert batch.negatives_BLK.shape[1:] == (draws or batch.items_BL.shape[1], 3)


@pytest.mark.parametrize(("window", "compiled"), [("prefixes", "last"), ("sliding", "encode")])
def test_what_a_step_runs_of_its_rows_is_compiled(window: str, compiled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch, "compile", lambda method, **_: asked.append(method.__name__) or method)
    words = [f"objective.window={window}", "model.embed_dim=4", "model.max_length=8", "hardware.compile=true"]
    cfg = validate("train", compose("train", words))
    fresh_model(cfg, packed(random_histories(5, 20, 9), 20), torch.device("cpu"))  # type: ignore[arg-type]
    assert compiled in asked
    assert not {"last", "encode"} - {compiled} & set(asked)


def test_validation_is_of_the_validation_split(tmp_path: Path) -> None:
    """What chose the checkpoint is what metrics.json says of `val`, not of `test`."""
    folder = tmp_path / "run"
    small = ["dataset.users=60", "dataset.items=40", "trainer.max_epochs=2", "evaluation.baselines=false"]
    seqrec_cli.run("train", [*small, f"data_dir={tmp_path / 'data'}", f"run_dir={folder}"])
    validated = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    measured = json.loads((folder / "metrics.json").read_text())
    best = max(validated, key=lambda row: row["ndcg@10"])
    for name in ("ndcg@10", "mrr", "auc", "logloss"):
        assert best[name] == measured["val"][name]
        assert best[name] != measured["test"][name]
