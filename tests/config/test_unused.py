"""Settings given for a model that has no use for them are refused; defaults and options that hold them are not."""

from contextlib import nullcontext

import pytest

from seqrec_cli.commands.dispatch import record_of
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig, TrainerConfig
from seqrec_cli.config.unused import IDLE, OF_STEPS

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


RUN = ("ckpt=run",)
IDLE_GIVEN = [
    ("recommend", ("user=1", "mmr_pool=50"), "mmr_pool=50 changes nothing here: it goes with mmr=LAMBDA", ("mmr=0.5",)),
    ("recommend", ("user=1", "mmr_by=genre"), "mmr_by=genre changes nothing", ("mmr=0.5",)),
    ("recommend", ("chunk=5",), "chunk=5 changes nothing here: it goes with input=FILE", ("input=x.csv",)),
    ("recommend", ("replace=true",), "replace=true changes nothing", ("input=x.csv",)),
    ("explain", ("user=1", "deletion.users=9"), "deletion.users=9 changes .* it goes with check=true", ("check=true",)),
    ("explain", ("user=1", "gap=0.5"), "goes with method=integrated", ("method=integrated_gradients",)),
    ("explain", ("user=1", "points=5", "method=auto"), "goes with", ("method=integrated_gradients",)),
    ("explain", ("user=1", "top=5", "item=3"), "top=5 changes nothing .* item=ID names one", ("item=null",)),
    ("serve", ("most_added=5",), "most_added=5 changes nothing here: it goes with state=FOLDER", ("state=x",)),
    ("serve", ("compact_at=5",), "compact_at=5 changes nothing here: it goes with state=FOLDER", ("state=x",)),
    ("card", ("depth=1", "picture=false"), "depth=1 changes nothing .* picture=false leaves out", ("picture=true",)),
    ("export", ("index=hnsw",), "index=hnsw changes nothing here: it goes with format=emb", ("format=embeddings",)),
]


@pytest.mark.parametrize(("verb", "given", "says", "use"), IDLE_GIVEN)
def test_a_setting_without_effect_is_refused_and_taken_with_what_gives_it_one(
    verb: str, given: tuple[str, ...], says: str, use: tuple[str, ...]
) -> None:
    def made(*words: str) -> None:
        kept = {word.partition("=")[0]: word for word in (*RUN, *words)}
        record_of(verb, compose(verb, list(kept.values())), list(kept.values()))

    with pytest.raises(SeqrecError, match=f"^{says}|{says}.*; leave it out$"):
        made(*given)
    made(*given, *use)


def test_an_audit_of_data_alone_asks_no_model() -> None:
    for given in ("endings=[2]", "drift=3"):
        for words, refused in ((["dataset=synthetic", given], True), (["ckpt=run", given], False)):
            with pytest.raises(SeqrecError, match="asks a model") if refused else nullcontext():
                record_of("audit", compose("audit", words), words)


def test_every_idle_setting_is_in_the_table_of_this_test() -> None:
    tested = {(idle.record, key) for idle in IDLE for key in idle.keys}
    said = " ".join(word for _, given, _, _ in IDLE_GIVEN for word in given)
    assert {key for _, key in tested if f"{key}=" not in said and f"{key}." not in said} == {
        "sequence_separator",
        "batch",
        "endings",
        "drift",
    }


def test_defaults_options_limits_and_what_switches_off_are_taken() -> None:
    cfg = record("train", "model=popular", "debug=tiny", "trainer.max_epochs=2", "trainer.patience=null")
    assert cfg.trainer.max_epochs == 2
    assert cfg.trainer.patience is None


def test_every_setting_of_the_trainer_is_of_steps_or_has_a_use() -> None:
    names = {name.partition(".")[2] for name in OF_STEPS}
    assert names.isdisjoint(OF_ANY_MODEL | OF_SCHEMA)
    assert names | OF_ANY_MODEL | OF_SCHEMA == set(TrainerConfig.model_fields)
