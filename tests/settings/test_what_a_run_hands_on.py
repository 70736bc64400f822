"""What follows training works with the run's own model, data and settings: each verb's options, from the command line.

A verb that reads the other split, the weights of training mode, seen items or another number format would end well,
with numbers that look like any other's.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

import seqrec_cli
from seqrec_cli.commands import evaluate as evaluate_verb
from seqrec_cli.commands import measure, sweep_report
from seqrec_cli.commands.restore import AS_TRAINED, ON_CPU, Restored, restore
from seqrec_cli.commands.training_setup import fresh_model
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.splits import training_counts, user_training_counts
from seqrec_cli.data.vocabulary import vocabulary
from seqrec_cli.export.formats import signature
from seqrec_cli.export.scoring import Scoring, Sizes
from seqrec_cli.reporting.sweep_rank import best_of
from seqrec_cli.serving.recommending import Recommending
from tests.settings import small_files

CONTEXT = ("dataset.item_attribute_columns=[kind]", "dataset.context_columns=[place]", "dataset.time_context=[hour]")
LEARNED = (
    "hardware.device=cpu",
    "hardware.precision=fp32",
    "trainer=next_item",
    "trainer.max_epochs=3",
    "trainer.lr=0.05",
    "trainer.warmup_steps=1",
    "trainer.batch_size=8",
    "model.embed_dim=8",
    "model.max_length=6",
    "model.dropout=0.5",
    "evaluation.ranked_users=null",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("handed_on")


def of_log(base: Path, users: int = 40) -> tuple[str, ...]:
    return (
        "dataset=csv",
        f"dataset.archive={small_files.csv(base, users)}",
        "dataset.duplicates=drop",
        "protocol.click_negatives=5",
        f"data_dir={base / 'data'}",
    )


@contextlib.contextmanager
def drawing_nothing() -> Iterator[None]:
    with (
        mock.patch("seqrec_cli.commands.measure.draw_reliability"),
        mock.patch("seqrec_cli.commands.train.draw_curves"),
        mock.patch("seqrec_cli.reporting.listener.TrainingListener._scalars"),
    ):
        yield


@pytest.fixture(scope="module")
def trained(base: Path) -> tuple[str, dict[str, Any], list[Any]]:
    """(folder, result, what each printed table of results was made of) of an encoder's run."""
    tables: list[Any] = []

    def table(name: str, metrics: Any, baselines: Any, **named: Any) -> Any:
        tables.append((metrics, named))
        return original(name, metrics, baselines, **named)

    original, folder = measure.results_table, base / "sasrec"
    with drawing_nothing(), mock.patch.object(measure, "results_table", table):
        result = seqrec_cli.run("train", ["model=sasrec", *LEARNED, *of_log(base), f"run_dir={folder}"])
    return str(folder), result, tables


@pytest.fixture(scope="module")
def ranker(base: Path) -> str:
    folder = base / "din"
    with drawing_nothing():
        seqrec_cli.run(
            "train", ["model=din", *LEARNED, *of_log(base), *CONTEXT, "evaluation.test=none", f"run_dir={folder}"]
        )
    return str(folder)


@pytest.fixture(scope="module")
def restored(trained: tuple[str, Any, Any]) -> Restored:
    return restore(trained[0], None, None, hardware=AS_TRAINED, tell=lambda line: None)


# Training


def test_the_table_of_test_shows_test_and_validation_beside_it(trained: tuple[str, Any, list[Any]]) -> None:
    _, result, ((shown, named),) = trained
    assert shown == result["test"] != result["val"]
    assert named["validation"] == result["val"]
    assert named["title"] == "test metrics"


def test_a_sweep_hears_of_validation_and_chooses_by_it(trained: tuple[str, Any, Any], restored: Restored) -> None:
    _, result, _ = trained
    row = sweep_report.report_of(restored.cfg, result)
    assert row["monitor"] == "ndcg@10"
    assert row["val"] == result["val"]["ndcg@10"] != result["test"]["ndcg@10"]
    jobs = [
        {"job": n, "val": val, "error": None, "metrics": {"test": {"ndcg@10": 1 - val}}}
        for n, val in ((0, 0.2), (1, 0.7))
    ]
    assert best_of(jobs, ["ndcg@10"]) == jobs[1]
    assert best_of(jobs, ["loss"]) == jobs[0]


def test_a_model_is_prepared_by_the_training_events(restored: Restored, ranker: str) -> None:
    run = restore(ranker, None, None, hardware=AS_TRAINED, tell=lambda line: None)
    model = fresh_model(run.cfg, run.log, torch.device("cpu"))
    assert model.counts_V.tolist() == training_counts(run.log).tolist()  # type: ignore[attr-defined,operator]
    assert model.counts_U.tolist() == user_training_counts(run.log).tolist()  # type: ignore[attr-defined,operator]


def test_a_run_does_not_go_on_with_other_data(base: Path, trained: tuple[str, Any, Any]) -> None:
    other = small_files.csv(base, 39)
    with pytest.raises(SeqrecError, match="the data differ from the run's"):
        seqrec_cli.run("train", [f"resume={trained[0]}", f"dataset.archive={other}"])


def test_an_event_of_the_least_rating_stays(base: Path) -> None:
    """`min_rating=3` keeps 3, whoever asks for it."""
    counted = []
    for least in (2.9, 3, 3.1):
        log = seqrec_cli.commands.train.with_view(  # type: ignore[attr-defined]
            *_prepared(base, f"dataset.min_rating={least}", "dataset.rating_column=rating")
        )
        counted.append(np.unique(log.ratings_N).tolist())
    assert counted == [[3, 4, 5], [3, 4, 5], [4, 5]]


def _prepared(base: Path, *overrides: str) -> tuple[Any, ...]:
    from seqrec_cli.commands.dispatch import record_of
    from seqrec_cli.config.compose import compose
    from seqrec_cli.data.preprocess import prepare

    asked = ["protocol.seen=keep", *of_log(base), *overrides]
    cfg: Any = record_of("preprocess", compose("preprocess", asked), asked)
    return prepare(cfg.dataset, Path(cfg.data_dir), print), cfg.protocol, print


# evaluate


def evaluated(folder: str, *overrides: str) -> dict[str, Any]:
    with mock.patch("seqrec_cli.commands.measure.draw_reliability"):
        return seqrec_cli.run("evaluate", [f"ckpt={folder}", *overrides])


def test_evaluate_measures_the_split_that_it_is_asked_for(trained: tuple[str, Any, Any]) -> None:
    folder, result, _ = trained
    for split in ("val", "test"):
        found = evaluated(folder, f"split={split}")
        assert found[split] == result[split]
        assert ("test_opened" in found) == (split == "test")


def test_every_option_of_evaluate_has_its_effect(base: Path, trained: tuple[str, Any, Any]) -> None:
    folder, result, _ = trained
    assert set(evaluated(folder, "split=val", "cutoffs=[3]")["val"]) >= {"hr@3", "ndcg@3"}
    assert "hr@10" not in evaluated(folder, "split=val", "cutoffs=[3]")["val"]
    assert "coverage@10" in evaluated(folder, "split=val", "beyond_accuracy=true")["val"]
    sampled = evaluated(folder, "split=val", "candidates=[full,uniform:3]")
    assert sampled["val"]["mrr"] == result["val"]["mrr"]
    assert list(sampled["candidates"]) == ["full", "uniform:3"]
    lengths = evaluated(folder, "split=val", "history=[1,6]")["history"]
    assert [row["history"] for row in lengths] == [1, 6]
    assert lengths[1]["mrr"] == result["val"]["mrr"] != lengths[0]["mrr"]
    there = base / "measured"
    evaluated(folder, "split=val", f"run_dir={there}")
    assert (there / "metrics.json").is_file()
    with pytest.raises(SeqrecError, match="the data differ"):
        evaluated(folder, f"archive={small_files.csv(base, 39)}")


def test_evaluation_works_in_the_number_format_asked_for(trained: tuple[str, Any, Any]) -> None:
    folder, result, _ = trained
    formats = []

    def keep(of: Any, split: Any) -> Any:
        formats.append(of[3].name)
        return original(of, split)

    original = evaluate_verb.measured
    with mock.patch.object(evaluate_verb, "measured", keep):
        as_trained, half = evaluated(folder), evaluated(folder, "hardware.precision=bf16")
    assert formats == ["fp32", "bf16"]
    assert as_trained["test"]["logloss"] == result["test"]["logloss"] != half["test"]["logloss"]
    assert half["test"]["logloss"] == pytest.approx(result["test"]["logloss"], rel=0.05)


# recommend, explain, export


def recommended(folder: str, *overrides: str) -> dict[str, Any]:
    return seqrec_cli.run("recommend", [f"ckpt={folder}", *overrides])


def test_what_is_served_is_the_model_without_dropout(restored: Restored, trained: tuple[str, Any, Any]) -> None:
    once, again = (recommended(trained[0], "user=3", "top=4") for _ in range(2))
    assert once["scores"] == again["scores"]
    for name in ("sasrec", "mode"):
        model = restored.model.train()
        served = Recommending(model, restored.log, name=name, max_length=6, precision=restored.precision)
        assert not any(module.training for module in served.model.modules())


def test_every_option_of_recommend_has_its_effect(base: Path, trained: tuple[str, Any, Any], ranker: str) -> None:
    folder = trained[0]
    first = recommended(folder, "user=3")
    assert len(first["items"]) == 10
    assert recommended(folder, "user=3", "top=2")["items"] == first["items"][:2]
    assert recommended(folder, "user=4")["items"] != first["items"]
    own = recommended(folder, "history=[1,2,3]")
    assert own["scores"] != recommended(folder, "history=[3,2,1]")["scores"]
    assert not {1, 2, 3} & set(own["items"])
    assert {1, 2, 3} <= set(recommended(folder, "history=[1,2,3]", "top=30", "repeats=true")["items"])
    half = recommended(folder, "user=3", "hardware.precision=bf16")
    assert half["scores"] != first["scores"]
    told = ("history=[1,2,3]", "times=[1600000000,1600000060,1600000120]")
    at = [recommended(ranker, *told, f"asked_at={when}", "context={place: A}") for when in (1600000200, 1600040000)]
    assert at[0]["scores"] != at[1]["scores"]
    elsewhere = recommended(ranker, *told, "asked_at=1600000200", "context={place: B}")
    assert elsewhere["scores"] != at[0]["scores"]
    with pytest.raises(SeqrecError, match="the data differ"):
        recommended(folder, "user=3", f"archive={small_files.csv(base, 39)}")


def test_explain_shows_items_that_the_user_has_not_met(base: Path, ranker: str) -> None:
    run = restore(ranker, None, None, hardware=AS_TRAINED, tell=lambda line: None)
    items, users = (vocabulary(run.log.folder, name).tolist() for name in ("items", "users"))  # type: ignore[arg-type]
    with mock.patch("seqrec_cli.commands.explain.draw_explanation"):
        for user in users[:5]:
            row = users.index(user)
            met = run.log.items_N[run.log.offsets_U1[row] : run.log.offsets_U1[row + 1]]
            found = seqrec_cli.run("explain", [f"ckpt={ranker}", f"user={user}", "top=30", f"out={base / 'x.png'}"])
            shown = {each["item"] for each in found["items"]}
            assert shown == {str(item) for item in items} - {str(items[index - 1]) for index in met}


def test_rows_padded_on_the_side_the_signature_names_score_alike(restored: Restored) -> None:
    run = restore(str(Path(restored.as_trained["run_dir"])), None, None, hardware=ON_CPU, tell=lambda line: None)
    scoring = Scoring(run.model, run.log, 6)
    padding = signature(scoring, run.log, {"batch": None, "length": None}, format="torch")["padding"]
    inputs = scoring.sample(run.log, Sizes(rows=4, length=3, candidates=2))
    width = {"right": (0, 3), "left": (3, 0)}
    sides = {}
    for side, pad in width.items():
        padded = {
            name: torch.nn.functional.pad(tensor, pad, value=padding["value"]) if name.endswith("_BL") else tensor
            for name, tensor in inputs.items()
        }
        sides[side] = torch.allclose(scoring.live(padded), scoring.live(inputs), atol=1e-5)
    assert [side for side, alike in sides.items() if alike] == [padding["side"]]
