"""Validation: the option's own `Config`, strict types, and a round trip through plain values."""

import contextlib
import itertools
import json

import pytest
from omegaconf import OmegaConf
from pydantic import Field, ValidationError

from seqrec_cli.config import records
from seqrec_cli.config.compose import compose
from seqrec_cli.config.describe import Key, keys_of
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model import Capabilities, ModelConfig
from seqrec_cli.config.registry import config_class
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.validate import dump, validate, validate_plain
from seqrec_cli.config.verbs import VERBS, Verb
from tests.covering import covering

WRONG: list[object] = ["abc", -7, {"a": 1}, [None], True]


def validated(*overrides: str) -> TrainConfig:
    record = validate("train", compose("train", ["dataset=ml-100k", *overrides]))
    assert isinstance(record, TrainConfig)
    return record


def test_groups_get_the_config_of_their_option() -> None:
    record = validated("model=bst")
    assert type(record.model) is config_class("model", "bst")
    assert type(record.objective) is config_class("objective", "click")
    assert type(record.dataset) is config_class("dataset", record.dataset.source)


def test_lists_become_tuples_and_nothing_can_change() -> None:
    record = validated("evaluation.cutoffs=[1,3,10]")
    assert record.evaluation.cutoffs == (1, 3, 10)
    assert record.trainer.betas == (0.9, 0.98)
    with pytest.raises(ValidationError):
        record.trainer.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("model", ["sasrec", "bst"])
def test_round_trip_through_json(model: str) -> None:
    record = validated(f"model={model}", "trainer.lr=1e-3", "evaluation.cutoffs=[2,10]")
    plain = json.loads(json.dumps(dump(record)))
    assert validate_plain("train", plain) == record
    assert dump(validate_plain("train", plain)) == plain
    assert plain["model"]["name"] == model
    assert plain["evaluation"]["cutoffs"] == [2, 10]


def test_plain_values_are_refused_as_a_tree_is() -> None:
    plain = dump(validated())
    plain["trainer"]["lr"] = "fast"
    plain["model"]["depth"] = 1
    with pytest.raises(SeqrecError, match=r"model\.depth: no such key.*\(and 1 more\)"):
        validate_plain("train", plain)
    with pytest.raises(SeqrecError, match="no mapping"):
        validate_plain("train", [1])


def test_every_missing_key_is_counted() -> None:
    cfg = compose("export", ["format=???"])
    with pytest.raises(SeqrecError, match=r"ckpt is missing.*\(and 1 more\)"):
        validate("export", cfg)


def test_keys_follow_the_option() -> None:
    keys = {name: {key.name for key in keys_of(TrainConfig, {"model": {"name": name}})} for name in ("sasrec", "bst")}
    assert "trainer.lr" in keys["bst"]
    assert {key for key in keys["bst"] if key.startswith("model.")} == {
        f"model.{name}" for name in config_class("model", "bst").model_fields
    }
    assert keys["sasrec"] != keys["bst"]


class _Column(Settings):
    name: str = Field(description="its name")
    kinds: tuple[tuple[int, ...], ...] | None = Field(description="lists in a list")


class _Table(Settings):
    first: _Column = Field(description="a column")
    second: _Column | None = Field(description="another, perhaps")
    renamed: dict[str, tuple[str, ...]] = Field(description="lists in a mapping")


def test_records_in_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "Table", _Table, raising=False)
    monkeypatch.setitem(VERBS, "table", Verb("table", "a table", "records.Table", ()))
    plain = {"first": {"name": "a", "kinds": [[1], [2, 3]]}, "second": None, "renamed": {"x": ["y"]}}
    record = validate_plain("table", plain)
    assert isinstance(record, _Table)
    assert record.first.kinds == ((1,), (2, 3))
    assert record.renamed == {"x": ("y",)}
    assert dump(record) == plain
    with pytest.raises(SeqrecError, match=r"^first\.name=1: expected text.*\(and 1 more\)$"):
        validate_plain("table", {"first": {"name": 1, "kinds": None}, "second": 5, "renamed": {}})


def test_types_in_words() -> None:
    keys: dict[str, Key] = {key.name: key for key in keys_of(TrainConfig, dump(validated("model=din")))}
    assert keys["trainer.patience"].type() == "integer >= 1 or null or auto"
    assert keys["trainer.final_lr"].type() == "number >= 0 and <= 1"
    assert keys["trainer.betas"].type() == "list of 2 x number or auto"
    assert keys["trainer.schedule"].type() == "one of cosine, constant"
    assert keys["model.mlp"].type() == "list of integer >= 1, not empty"
    assert keys["trainer.schedule"].choices() == ["cosine", "constant"]
    assert keys["model.softmax"].choices() == ["true", "false"]
    assert keys["trainer.patience"].choices() == ["null", "auto", "fast", "thorough"]
    assert keys["trainer.lr"].choices() == ["auto"]


def test_a_model_that_says_nothing_of_its_capabilities_cannot_be_defined() -> None:
    with pytest.raises(TypeError, match="says nothing of its capabilities"):
        type("Config", (ModelConfig,), {"__module__": __name__})
    with pytest.raises(TypeError, match="missing"):
        Capabilities(family="encoder", causal=True)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("model", "wrong"),
    covering([*itertools.product(["sasrec", "bst"], WRONG)], lambda case: [case[0], str(case[1])]),
)
def test_a_wrong_type_is_a_line_whatever_else_is_worked_out_from_it(model: str, wrong: object) -> None:
    plain = OmegaConf.to_container(compose("train", [f"model={model}"]), resolve=True)
    assert isinstance(plain, dict)
    for group in ("trainer", "evaluation", "objective", "model", "protocol", "hardware"):
        for name in plain[group]:
            changed = {**plain, group: {**plain[group], name: wrong}}
            with contextlib.suppress(SeqrecError):  # which a person reads; any other error is a traceback
                validate("train", OmegaConf.create(changed))
    with pytest.raises(SeqrecError, match=r"trainer\.swa_epochs=abc: expected"):
        validate("train", OmegaConf.create({**plain, "trainer": {**plain["trainer"], "swa_epochs": "abc"}}))
