"""An experiment's settings for an option that the command line has replaced: refused, with the words that mend it."""

import shlex

import pytest
from omegaconf import open_dict

from seqrec_cli.commands.dispatch import record_of
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.leftovers import refuse_leftovers
from seqrec_cli.config.schema import TrainConfig


def asked(*words: str) -> TrainConfig:
    record = record_of("train", compose("train", [*words]), [*words])
    assert isinstance(record, TrainConfig)
    return record


def test_the_line_names_the_file_and_mends_it() -> None:
    words = ("experiment=ml-1m_bert4rec", "objective=next_item", "objective.window=prefixes", "objective.stride=null")
    with pytest.raises(SeqrecError) as refused:
        asked(*words)
    assert str(refused.value) == (
        "objective.last: set by experiment=ml-1m_bert4rec, and objective=next_item has no such key; "
        "add '~objective.last' to leave it out"
    )
    record = asked(*words, *(word for word in shlex.split(str(refused.value)) if word.startswith("~")))
    assert (record.model.name, record.objective.name) == ("bert4rec", "next_item")
    assert record.model.max_length == 200  # the experiment's


def test_every_such_setting_is_named() -> None:
    words = ("experiment=ml-1m_sasrec", "debug=tiny", "model=gru4rec")
    with pytest.raises(SeqrecError) as refused:
        asked(*words)
    said = str(refused.value)
    assert said.startswith("model.blocks, model.ffn_dim, model.heads: set by experiment=ml-1m_sasrec or debug=tiny, ")
    record = asked(*words, *(word for word in shlex.split(said) if word.startswith("~")))
    assert (record.model.name, record.trainer.batch_size) == ("gru4rec", 64)


def test_null_asks_for_nothing() -> None:
    record = asked("experiment=ml-1m_sasrec", "objective=distil", "objective.teacher=x")  # objective.negatives: null
    assert record.objective.name == "distil"
    assert record.objective.window == "sliding"  # type: ignore[attr-defined]  # the experiment's


@pytest.mark.parametrize("value", [False, 0, 0.0, ""])
def test_what_is_not_null_asks_for_something(value: object) -> None:
    words = ["experiment=ml-1m_sasrec", "objective=next_item"]
    cfg = compose("train", words)
    with open_dict(cfg):
        cfg.objective.keep = value
    with pytest.raises(SeqrecError, match=r"^objective\.keep: set by experiment=ml-1m_sasrec, and"):
        refuse_leftovers(cfg, words)


def test_what_fits_is_let_through() -> None:
    assert asked("experiment=ml-1m_sasrec", "objective=next_item").objective.name == "next_item"
    assert asked("objective=distil", "objective.teacher=x").objective.name == "distil"


@pytest.mark.parametrize("value", ["1", "null"])
def test_a_word_of_ones_own_is_refused_as_such(value: str) -> None:
    with pytest.raises(SeqrecError, match=r"^objective\.nothing: no such key"):
        asked("experiment=ml-1m_sasrec", "objective=next_item", f"+objective.nothing={value}")
