"""Runs made before a setting was there can still be read."""

import copy

import pytest

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.migrations import BEFORE, migrated
from seqrec_cli.config.validate import dump, validate, validate_plain


@pytest.mark.parametrize("model", ["bert4rec", "din"])
def test_a_record_gets_what_was_done_before_a_setting_was_there(model: str) -> None:
    plain = dump(validate("train", compose("train", [f"model={model}"])))
    older = copy.deepcopy(plain)
    removed = {key for key in BEFORE if older[key.partition(".")[0]].pop(key.partition(".")[2], None) is not None}
    assert "trainer.bucket_by_length" in removed
    assert removed & {"model.ffn_dropout", "model.batch_norm"}
    with pytest.raises(SeqrecError, match="is missing"):
        validate_plain("train", older)
    expected = copy.deepcopy(plain)
    for key in removed:
        expected[key.partition(".")[0]][key.partition(".")[2]] = BEFORE[key]
    assert dump(validate_plain("train", migrated(older))) == expected
    assert migrated(plain) == plain


def test_what_was_set_and_what_a_model_does_not_have_stay() -> None:
    plain = dump(validate("train", compose("train", ["model=sasrec", "trainer.bucket_by_length=false"])))
    assert migrated(plain)["trainer"]["bucket_by_length"] is False
    assert "batch_norm" not in migrated(plain)["model"]
