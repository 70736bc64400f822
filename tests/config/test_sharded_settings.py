"""Settings that sharded tables cannot go with are refused in one line, which says what to do."""

import pytest

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate

SHARDED = "hardware.table=sharded"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model=din"], "model=din does not score by inner products with one item table"),
        (["model=ease"], "model=ease does not score by inner products"),
        (["model=ensemble"], "model=ensemble does not score by inner products"),
        (["trainer.micro_batch_tokens=100"], "trainer.micro_batch_tokens: processes have unlike numbers"),
        (["hardware.compile=true"], "hardware.compile: what processes send each other is not compiled"),
        (["hardware.precision=fp16"], "hardware.precision: the scale of fp16 gradients"),
        (["start_from=x"], "start_from: the earlier run's vectors are not dealt out"),
    ],
)
def test_what_sharded_tables_cannot_go_with_is_refused(words: list[str], says: str) -> None:
    validate("train", compose("train", words))  # not without them
    with pytest.raises(SeqrecError) as refused:
        validate("train", compose("train", [*words, SHARDED]))
    told = str(refused.value)
    assert says in told
    assert "hardware.table=replicated" in told
    assert "\n" not in told


@pytest.mark.parametrize("model", ["sasrec", "bert4rec", "gru4rec", "lrurec", "hstu", "esasrec", "bsarec", "nextitnet"])
def test_encoders_can_have_sharded_tables(model: str) -> None:
    record = validate("train", compose("train", [f"model={model}", SHARDED]))
    assert isinstance(record, TrainConfig)
    assert record.hardware.table == "sharded"
