"""What a search space may say: refused before the first trial, in a line that names the entry."""

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from pydantic import ValidationError
from test_study import ENTRIES, space_of

from seqrec_cli.config.compose import compose, conf_folder, groups
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.tuning import SpaceEntry, TuneConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.tuning.configs import TrialConfigs, base_values, check_space, without_given
from seqrec_cli.tuning.space import Space

CHOICE = {"type": "choice", "values": ["next_item", "gbce"]}


@pytest.fixture(scope="module")
def configs() -> TrialConfigs:
    return TrialConfigs(["model=sasrec"], None)


@pytest.fixture(scope="module")
def base(configs: TrialConfigs) -> dict[str, Any]:
    return base_values(configs.plain({}))


def checked(configs: TrialConfigs, base: dict[str, Any], entries: dict[str, Any]) -> None:
    check_space(Space({key: SpaceEntry.from_plain(entry) for key, entry in entries.items()}, base), configs)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (
            {"model.drpout": {"type": "float", "low": 0, "high": 1}},
            r"model\.drpout: no such key; did you mean 'model\.dropout'",
        ),
        (
            {"model.dropout": {"type": "float", "low": 0, "high": 1.5}},
            r"model\.dropout=1\.5: expected number >= 0 and <",
        ),
        ({"model.blocks": {"type": "float", "low": 1, "high": 3}}, r"model\.blocks=1\.0: expected integer >= 1"),
        (
            {"model.norm": {"type": "choice", "values": ["pre", "publishd"]}},
            r"model\.norm=publishd: expected one of .*'published'",
        ),
        ({"dataset.min_rating": {"type": "int", "low": 1, "high": 4}}, r"dataset\.min_rating is not searched"),
        ({"trainer.monitor": {"type": "choice", "values": ["hr@10"]}}, r"trainer\.monitor is not searched"),
        (
            {"model.name": {"type": "choice", "values": ["bst"]}},
            r"model\.name is not searched; it is chosen by its group",
        ),
        (
            {"objective": {"type": "choice", "values": ["gbcee"]}},
            r"objective=gbcee: no such option; did you mean 'gbce'",
        ),
        ({"objective": {"type": "int", "low": 1, "high": 2}}, "objective is a group; give it type: choice"),
        (
            {"objective": CHOICE, "objective.t": {"type": "float", "low": 0, "high": 1}},
            r"objective\.t: no such key.* with objective=next_item; .*when: \{objective: \.\.\.\}",
        ),
        (
            {"objective.t": {"type": "float", "low": 0, "high": 1, "when": {"objective": "gbce"}}, "objective": CHOICE},
            r"objective\.t depends on objective, which must stand above it",
        ),
        (
            {"model.blocks": {"type": "int", "low": 1, "high": 2, "when": {"model.hedas": 1}}},
            r"model\.blocks depends on model\.hedas, which is no setting; did you mean 'model\.heads'",
        ),
        ({}, "the space is empty"),
    ],
)
def test_a_space_that_does_not_fit_is_refused(
    configs: TrialConfigs, base: dict[str, Any], entries: dict[str, Any], words: str
) -> None:
    with pytest.raises(SeqrecError, match=words):
        checked(configs, base, entries)


def test_an_entry_may_depend_on_an_option_of_a_group(configs: TrialConfigs, base: dict[str, Any]) -> None:
    conditional = {"type": "float", "low": 0, "high": 1, "when": {"objective": "gbce"}}
    checked(configs, base, {"objective": CHOICE, "objective.t": conditional})
    with pytest.raises(SeqrecError, match=r"objective\.t=2\.0: expected .* with objective=gbce"):
        checked(configs, base, {"objective": CHOICE, "objective.t": {**conditional, "high": 2}})


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"type": "float", "low": 0}, "type: float has low and high"),
        ({"type": "float", "low": 2, "high": 1}, "low=2 is above high=1"),
        ({"type": "float", "low": 0, "high": 1, "log": True}, "log: true needs low above 0"),
        ({"type": "float", "low": 1, "high": 2, "log": True, "step": 0.5}, "log: true needs low above 0, and no step"),
        ({"type": "int", "low": 1, "high": 2.5}, "type: int has whole numbers"),
        ({"type": "choice", "values": [1, 2], "low": 1}, "a choice has values and no low"),
        ({"type": "choice", "values": [1, 1]}, "a value stands twice"),
        ({"type": "choice"}, "a choice has values, such as"),
        ({"type": "range", "low": 1, "high": 2}, "'float', 'int' or 'choice'"),
        ({"type": "float", "low": 0, "hgih": 1}, "Extra inputs are not permitted"),
    ],
)
def test_an_entry_that_contradicts_itself_is_refused(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SpaceEntry.from_plain(entry)


def test_a_proposal_is_held_against_the_space() -> None:
    space = space_of()
    good = {"trainer.lr": 0.01, "model.blocks": 2, "objective": "gbce", "objective.t": 0.25}
    assert space.problems(good) == []
    assert space.problems(good | {"objective": "next_item"}) == [
        "objective.t has no use beside another objective than gbce"
    ]
    assert space.problems(good | {"trainer.lr": 0.5}) == [
        "trainer.lr=0.5 is not a number from 0.0001 to 0.1 (by its logarithm)"
    ]
    assert space.problems(good | {"objective.t": 0.3}) == [
        "objective.t=0.3 is not a number from 0 to 1 in steps of 0.25"
    ]
    assert space.problems(good | {"model.blocks": 2.0}) == ["model.blocks=2.0 is not a whole number from 1 to 3"]
    assert (
        space.problems(good | {"model.blcks": 2})[0] == "model.blcks is not in the space; did you mean 'model.blocks'?"
    )
    assert space.problems({}) == ["trainer.lr is missing", "model.blocks is missing", "objective is missing"]
    assert space.words()[-1] == "objective.t: a number from 0 to 1 in steps of 0.25, only with objective=gbce"
    assert list(space.entries) == list(ENTRIES)


def test_what_the_command_line_gives_is_not_searched() -> None:
    entries, fixed = without_given(space_of().entries, ["model.blocks=2", "dataset=ml-1m"])
    assert fixed == ["model.blocks"]
    assert "model.blocks" not in entries
    assert len(entries) == len(ENTRIES) - 1


def test_a_trial_is_what_the_same_overrides_of_train_are() -> None:
    """Also where one setting is written as another's: BST's `mlp_dropout` is its `dropout`."""
    configs = TrialConfigs(["model=bst"], None)
    of_trial = configs.record({"model.dropout": 0.35, "trainer.lr": 0.002, "model.mlp": [64, 32]})
    overrides = ["model=bst", "model.dropout=0.35", "trainer.lr=0.002", "model.mlp=[64,32]"]
    assert of_trial == validate("train", compose("train", overrides))
    assert of_trial.model.mlp_dropout == 0.35  # type: ignore[attr-defined]
    assert "trainer.lr" not in of_trial.auto


@pytest.mark.parametrize("name", groups()["space"])
def test_spaces_that_are_shipped_fit_their_models(name: str) -> None:
    """Every entry is a setting of the model that the file's first line names, within its range."""
    text = (conf_folder() / "space" / f"{name}.yaml").read_text(encoding="utf-8")
    command = text.splitlines()[0].removeprefix("# seqrec tune ").split()
    cfg = validate("tune", compose("tune", command))
    assert isinstance(cfg, TuneConfig)
    assert cfg.space.keys() == OmegaConf.load(conf_folder() / "space" / f"{name}.yaml").keys()
    configs = TrialConfigs([text for text in command if not text.startswith("space=")], None)
    check_space(Space(cfg.space, base_values(configs.plain({}))), configs)


def test_a_space_of_one_s_own_is_found(tmp_path: Path) -> None:
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "mine.yaml").write_text("model.blocks: {type: int, low: 1, high: 2}\n")
    cfg = validate("tune", compose("tune", ["space=mine"], str(tmp_path)))
    assert isinstance(cfg, TuneConfig)
    assert [*cfg.space] == ["model.blocks"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            "{type: flaot, low: 0, high: 1}",
            "space.model.dropout.type=flaot: expected one of float, int, choice; did you mean",
        ),
        (
            "{type: float, low: 0, hgih: 1}",
            "space.model.dropout.hgih: no such key; did you mean 'space.model.dropout.high'",
        ),
        ("{type: float, low: 1, high: 0}", "space.model.dropout: low=1 is above high=0"),
        (
            "0.5",
            "space.model.dropout: write it as {type: float, low: 0.1, high: 0.5}, or {type: choice, values: [1, 2]}",
        ),
    ],
)
def test_a_wrong_entry_is_told_by_its_key(entry: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "mine.yaml").write_text(f"model.dropout: {entry}\n")
    with pytest.raises(SeqrecError, match=re.escape(words)):
        validate("tune", compose("tune", ["space=mine"], str(tmp_path)))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (
            {"trainer": {"lr": {"type": "float", "low": 0.1, "high": 0.2}}},
            "stands by its whole key, with dots",
        ),
        ({"trainer.lr": [0.1, 0.2]}, "write it as {type: float"),
        ({"trainer.lr": {"low": 0.1, "high": 0.2}}, "it has no type"),
    ],
)
def test_an_entry_that_is_none_says_how_one_is_written(entries: dict[str, Any], words: str) -> None:
    for entry in entries.values():
        with pytest.raises(ValidationError, match=words):
            SpaceEntry.model_validate(entry)


def test_a_condition_that_can_never_hold_is_refused() -> None:
    choice = SpaceEntry.model_validate({"type": "choice", "values": ["next_item", "gbce"]})
    entry = {"type": "float", "low": 0.5, "high": 1.0}
    wrong = SpaceEntry.model_validate({**entry, "when": {"objective": "gbcee"}})
    with pytest.raises(SeqrecError, match=r"objective.t needs objective=gbcee, which is not one of.*'gbce'"):
        Space({"objective": choice, "objective.t": wrong}, {})
    several = SpaceEntry.model_validate({**entry, "when": {"objective": ["gbce", "next_item"]}})
    assert Space({"objective": choice, "objective.t": several}, {}).applies("objective.t", {"objective": "gbce"})
