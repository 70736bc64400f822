"""Former names and former runs are taken, with a line that says what a thing is called now."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqrec_cli import cli
from seqrec_cli.config import migrations
from seqrec_cli.config.auto_rule import OF_MODEL
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.migrations import BEFORE, RENAMED, migrated
from seqrec_cli.config.validate import dump, validate, validate_plain

OLD_RUNS = Path(__file__).parent / "old_runs"  # config.yaml as runs wrote it


@pytest.fixture(autouse=True)
def nothing_told_yet() -> None:
    migrations._tell.cache_clear()


NUMBERS = ["trainer=next_item", "evaluation.ranked_users=null"]  # what a run was told before the data could settle it


def explicit(model: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """The recorded settings of a model that are left to the data today."""
    yield from ((f"{path}.{name}", model[name]) for name in OF_MODEL if name in model)
    for key, member in model.get("members", {}).items():
        yield from explicit(member, f"{path}.members.{key}")


def today(*overrides: str) -> dict[str, object]:
    return dump(validate("train", compose("train", ["dataset=ml-100k", *overrides])))


@pytest.mark.parametrize(
    ("run", "overrides", "lines"),
    [
        (
            "sasrec_shift",
            [
                "model=sasrec",
                "trainer.micro_batch_tokens=4096",
                "trainer.bucket_by_length=false",
                "evaluation.baselines=false",
                "objective.window=last",
            ],
            5,
        ),
        ("popular_count", ["model=popular"], 5),
        ("mixture_bce", ["model=ensemble", "objective=bce", "objective.window=last"], 6),
    ],
)
def test_an_old_run_is_the_run_of_todays_names(
    run: str, overrides: list[str], lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = yaml.safe_load((OLD_RUNS / f"{run}.yaml").read_text())
    widths = [f"{path}={'null' if value is None else value}" for path, value in explicit(recorded["model"], "model")]
    negatives = ["objective.negatives=null"] if recorded["objective"]["name"] in ("shift", "next_item") else []
    found = migrated(recorded)
    assert dump(validate_plain("train", found)) == today(*NUMBERS, *negatives, *widths, *overrides)
    assert migrated(found) == found
    told = capsys.readouterr().err.splitlines()
    assert len(told) == lines
    assert "trainer.part_tokens is now trainer.micro_batch_tokens" in told


def test_the_old_runs_hold_every_former_name() -> None:
    text = "".join(path.read_text() for path in OLD_RUNS.glob("*.yaml"))
    assert all(old.replace("=", ".").rpartition(".")[2] in text for old in RENAMED)


@pytest.mark.parametrize(
    ("given", "now"),
    [
        ("trainer.part_tokens=4096", "trainer.micro_batch_tokens=4096"),
        ("+trainer.like_lengths=false", "+trainer.bucket_by_length=false"),
        ("~evaluation.floors", "~evaluation.baselines"),
        ("model=mixture,sasrec", "model=ensemble,sasrec"),
        ("objective.log_q=false", "objective.log_q=none"),
        ("objective.sampling=uniform,unmet", "objective.sampling=uniform,unseen"),
        ("trainer.lr=1e-3", "trainer.lr=1e-3"),
        ("objective=click", "objective=click"),
    ],
)
def test_overrides_by_former_names(given: str, now: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert migrations.overrides([given]) == [now]
    assert len(capsys.readouterr().err.splitlines()) == (given != now)


def test_each_line_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["dataset=ml-100k", "objective=shift", "trainer.part_tokens=64"]
    records = [validate("train", compose("train", overrides)) for _ in range(2)]
    assert records[0] == validate("train", compose("train", ["dataset=ml-100k", "trainer.micro_batch_tokens=64"]))
    assert capsys.readouterr().err.splitlines() == [
        "objective=shift is now objective=next_item",
        "trainer.part_tokens is now trainer.micro_batch_tokens",
    ]


def test_the_command_line_takes_a_former_verb_and_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["mix", "ckpts=[a,b]", "--cfg", "job"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "mix is now ensemble\n"
    assert "ckpts" in printed.out
    assert cli.main(["train", "trainer.part_tokens=0"]) == 2
    told, refused = capsys.readouterr().err.splitlines()
    assert told == "trainer.part_tokens is now trainer.micro_batch_tokens"
    assert refused.startswith("seqrec train: trainer.micro_batch_tokens=0: expected integer >= 1 or null")


def test_files_of_ones_own_by_former_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "experiment").mkdir()
    mine = tmp_path / "experiment" / "mine.yaml"
    mine.write_text("# @package _global_\ntrainer:\n  part_tokens: 64\n")
    record = dump(validate("train", compose("train", ["experiment=mine"], str(tmp_path))))
    assert record["trainer"]["micro_batch_tokens"] == 64
    assert "trainer.part_tokens is now" in capsys.readouterr().err
    mine.write_text("# @package _global_\ndefaults:\n  - override /objective: shift\n")
    with pytest.raises(SeqrecError, match="objective=shift is now objective=next_item: change it in the file"):
        compose("train", ["experiment=mine"], str(tmp_path))


@pytest.mark.parametrize("model", ["bert4rec", "din"])
def test_a_record_gets_what_was_done_before_a_setting_was_there(model: str) -> None:
    plain = today(f"model={model}")
    older = copy.deepcopy(plain)
    removed = {key for key in BEFORE if older[key.partition(".")[0]].pop(key.partition(".")[2], None) is not None}  # type: ignore[attr-defined]
    assert "trainer.bucket_by_length" in removed
    assert removed & {"model.ffn_dropout", "model.batch_norm"}
    with pytest.raises(SeqrecError, match="is missing"):
        validate_plain("train", older)
    expected = copy.deepcopy(plain)
    for key in removed:
        expected[key.partition(".")[0]][key.partition(".")[2]] = BEFORE[key]  # type: ignore[index]
    assert dump(validate_plain("train", migrated(older))) == expected
    assert migrated(plain) == plain


def test_what_was_set_and_what_a_model_does_not_have_stay() -> None:
    plain = today("model=sasrec", "trainer.bucket_by_length=false")
    assert migrated(plain)["trainer"]["bucket_by_length"] is False
    assert "batch_norm" not in migrated(plain)["model"]


OLDER = {  # settings that such a run has no record of, and what it did
    "bst": {"mlp_dropout": 0.25, "block_activation": "leaky_relu", "activation": "leaky_relu", "batch_norm": False},
    "dien": {
        "attention": "bilinear",
        "unit": [80, 40],
        "unit_activation": "sigmoid",
        "auxiliary_negatives": "uniform",
        "auxiliary_mlp": None,
    },
    "din": {"score": "unit"},
    "widedeep": {"l2_counts": "once", "l2_attributes": False},
    "bert4rec": {"layer_std": None},
}


@pytest.mark.parametrize("model", OLDER)
def test_a_run_from_before_the_sources_own_forms_did_what_was_done_then(model: str) -> None:
    plain = today(f"model={model}", "model.dropout=0.25", "trainer.decay_embeddings=false")
    older = copy.deepcopy(plain)
    for name in OLDER[model]:
        del older["model"][name]  # type: ignore[attr-defined]
    del older["trainer"]["decay_embeddings"]  # type: ignore[attr-defined]
    found = migrated(older)
    assert {name: found["model"][name] for name in OLDER[model]} == OLDER[model]
    assert dump(validate_plain("train", found)) == plain


@pytest.mark.parametrize(("former", "now"), [(True, "mean"), (False, "none")])
def test_what_dien_pooled_is_told_by_its_name(former: bool, now: str) -> None:
    older = today("model=dien")
    older["model"]["pooled"] = former  # type: ignore[index]
    assert validate_plain("train", migrated(older)).model.pooled == now  # type: ignore[attr-defined]


def test_members_of_a_former_ensemble_are_completed() -> None:
    plain = today("model=ensemble")
    older = copy.deepcopy(plain)
    for member in older["model"]["members"].values():  # type: ignore[index]
        del member["layer_std"]
    assert migrated(older) == plain


@pytest.mark.parametrize("name", ["sampled_softmax", "sampled_all_action"])
def test_a_run_that_says_nothing_of_log_q_had_it(name: str) -> None:
    recorded = today(f"objective={name}")
    recorded["objective"].pop("log_q")  # type: ignore[attr-defined]
    assert migrated(recorded) == today(f"objective={name}", "objective.log_q=negatives")


@pytest.mark.parametrize(("was", "now"), [(True, "negatives"), (False, "none")])
def test_log_q_that_was_on_or_off(was: bool, now: str) -> None:
    recorded = today("objective=sampled_softmax")
    recorded["objective"]["log_q"] = was  # type: ignore[index]
    assert migrated(recorded) == today("objective=sampled_softmax", f"objective.log_q={now}")


def test_a_run_in_micro_batches_that_had_their_own_statistics_is_read_as_one_of_whole_batches(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["model=din", "model.batch_norm=true"]
    recorded = today(*words)
    recorded["trainer"]["micro_batch_tokens"] = 64  # type: ignore[index]
    assert validate_plain("train", migrated(recorded)) == validate_plain("train", today(*words))
    assert capsys.readouterr().err.splitlines() == [
        "trainer.micro_batch_tokens=64 of model.activation=dice and model.batch_norm=true is now "
        "trainer.micro_batch_tokens=null"
    ]
    kept = today("model=din", "model.activation=prelu", "trainer.micro_batch_tokens=64")
    assert migrated(kept) == kept
