"""Settings given for a model that has no use for them are refused; defaults and options that hold them are not."""

import pytest

from seqrec_cli.commands.dispatch import record_of
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig, TrainerConfig
from seqrec_cli.config.unused import OF_STEPS

OF_ANY_MODEL = {"max_epochs", "max_steps", "minutes", "monitor", "seed"}
OF_SCHEMA = {"seeds", "batch_tokens", "micro_batch_tokens", "plateau", "ema", "swa_epochs"}  # refused there


def record(verb: str, *overrides: str) -> TrainConfig:
    made = record_of(verb, compose(verb, list(overrides)), list(overrides))
    assert isinstance(made, TrainConfig)
    return made


@pytest.mark.parametrize("verb", ["train", "plan"])
@pytest.mark.parametrize("override", ["trainer.lr=0.1", "++trainer.patience=3", "trainer.batch_size=8"])
def test_a_setting_of_steps_is_refused_where_none_are_taken(verb: str, override: str) -> None:
    key = override.lstrip("+").partition("=")[0]
    with pytest.raises(SeqrecError, match=rf"^{key}: model=ease is fitted in closed form, in no steps; leave .* out$"):
        record(verb, "model=ease", override)
    record(verb, "model=sasrec", override)


def test_defaults_options_limits_and_what_switches_off_are_taken() -> None:
    cfg = record("train", "model=popular", "debug=tiny", "trainer.max_epochs=2", "trainer.patience=null")
    assert cfg.trainer.max_epochs == 2
    assert cfg.trainer.patience is None


def test_every_setting_of_the_trainer_is_of_steps_or_has_a_use() -> None:
    names = {name.partition(".")[2] for name in OF_STEPS}
    assert names.isdisjoint(OF_ANY_MODEL | OF_SCHEMA)
    assert names | OF_ANY_MODEL | OF_SCHEMA == set(TrainerConfig.model_fields)
