"""Sealing: the option's own `Config`, strict types, and a round trip through plain values."""

import json

import pytest
from pydantic import Field, ValidationError

from seqrec_cli.config import seal as sealing
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.seal import fields_of, reseal, seal, unseal
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.slots import config_class
from seqrec_cli.config.words import type_in_words


def sealed(*overrides: str) -> TrainConfig:
    record = seal("train", compose("train", ["dataset=ml-100k", *overrides]))
    assert isinstance(record, TrainConfig)
    return record


def test_slots_get_the_config_of_their_option() -> None:
    record = sealed("model=bst")
    assert type(record.model) is config_class("model", "bst")
    assert type(record.objective) is config_class("objective", "click")
    assert type(record.dataset) is config_class("dataset", record.dataset.source)


def test_lists_become_tuples_and_nothing_can_change() -> None:
    record = sealed("evaluation.cutoffs=[1,3,10]")
    assert record.evaluation.cutoffs == (1, 3, 10)
    assert record.trainer.betas == (0.9, 0.98)
    with pytest.raises(ValidationError):
        record.trainer.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("model", ["sasrec", "bst"])
def test_round_trip_through_json(model: str) -> None:
    record = sealed(f"model={model}", "trainer.lr=1e-3", "evaluation.cutoffs=[2,10]")
    plain = json.loads(json.dumps(unseal(record)))
    assert reseal("train", plain) == record
    assert unseal(reseal("train", plain)) == plain
    assert plain["model"]["name"] == model
    assert plain["evaluation"]["cutoffs"] == [2, 10]


def test_reseal_refuses_what_seal_refuses() -> None:
    plain = unseal(sealed())
    plain["trainer"]["lr"] = "fast"
    plain["model"]["depth"] = 1
    with pytest.raises(SeqrecError, match=r"model\.depth: no such key.*\(and 1 more\)"):
        reseal("train", plain)
    with pytest.raises(SeqrecError, match="no mapping"):
        reseal("train", [1])


def test_every_missing_key_is_counted() -> None:
    cfg = compose("export", ["format=???"])
    with pytest.raises(SeqrecError, match=r"ckpt is missing.*\(and 1 more\)"):
        seal("export", cfg)


def test_fields_follow_the_option() -> None:
    keys = {name: dict(fields_of("train", {"model": {"name": name}})) for name in ("sasrec", "bst")}
    assert "trainer.lr" in keys["bst"]
    assert {key for key in keys["bst"] if key.startswith("model.")} == {
        f"model.{name}" for name in config_class("model", "bst").model_fields
    }
    assert keys["sasrec"].keys() != keys["bst"].keys()


class _Column(Settings):
    name: str = Field(description="its name")
    kinds: tuple[tuple[int, ...], ...] | None = Field(description="lists in a list")


class _Table(Settings):
    first: _Column = Field(description="a column")
    second: _Column | None = Field(description="another, perhaps")
    renamed: dict[str, tuple[str, ...]] = Field(description="lists in a mapping")


def test_records_in_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sealing.VERBS, "table", _Table)
    plain = {"first": {"name": "a", "kinds": [[1], [2, 3]]}, "second": None, "renamed": {"x": ["y"]}}
    record = reseal("table", plain)
    assert isinstance(record, _Table)
    assert record.first.kinds == ((1,), (2, 3))
    assert record.renamed == {"x": ("y",)}
    assert unseal(record) == plain
    with pytest.raises(SeqrecError, match=r"^first\.name=1: expected text.*\(and 1 more\)$"):
        reseal("table", {"first": {"name": 1, "kinds": None}, "second": 5, "renamed": {}})


def test_types_in_words() -> None:
    fields = TrainConfig.model_fields["trainer"].annotation.model_fields  # type: ignore[union-attr]
    words = {name: type_in_words(field.annotation, field.metadata) for name, field in fields.items()}
    assert words["patience"] == "integer >= 1 or null"
    assert words["final_lr"] == "number >= 0 and <= 1"
    assert words["betas"] == "list of 2 x number"
    assert words["schedule"] == "one of cosine, constant"
