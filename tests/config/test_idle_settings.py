"""A setting that another one leaves without a use is refused if it is changed, and taken as it is shipped."""

import pytest

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import config_class, names
from seqrec_cli.config.validate import dump, validate, validate_plain
from tests.shipped import shipped


def asked(*overrides: str) -> None:
    validate("train", compose("train", ["dataset=ml-100k", *overrides]))


@pytest.mark.parametrize(
    ("idle", "use", "told"),
    [
        ("model=din model.search_events=20", "model.search_attribute=genres", "model.search_attribute=null"),
        ("model=din model.score=dot model.unit=[80,40]", "model.score=unit", "model.score=dot"),
        ("model=din model.score=dot model.unit_activation=dice", "model.score=unit", "model.score=dot"),
        ("model=dien model.unit=[9]", "model.attention=unit", "model.attention=bilinear"),
        ("model=dien model.auxiliary=0 model.auxiliary_mlp=[9]", "model.auxiliary=1", "model.auxiliary=0"),
        ("model=dien model.auxiliary=0 model.auxiliary_negatives=popularity", "model.auxiliary=1", "model.auxiliary=0"),
        ("model=bst model.time_buckets=8", "model.positions=time", "model.positions=index"),
        ("model=bst model.l2_counts=occurrences", "model.l2=0.1", "model.l2=0"),
        ("model=avgpool model.l2_attributes=true", "model.l2=0.1", "model.l2=0"),
        ("model=hstu model.time_buckets=8", "model.time_bias=past", "model.time_bias=none"),
        ("model=bsarec model.alpha=0 model.cutoff=5", "model.alpha=0.5", "model.alpha=0"),
        ("model=bsarec model.alpha=1 model.heads=2", "model.alpha=0.5", "model.alpha=1"),
        ("model=sasrec model.user_dropout=0.1", "model.user_dim=4", "model.user_dim=0"),
        ("objective=gbce objective.uniform_share=0.3", "objective.uniform_share=0.5", "objective.sampling=uniform"),
        (
            "objective=sampled_softmax objective.uniform_share=0.3",
            "objective.sampling=mixed",
            "objective.sampling=popularity",
        ),
        (
            "dataset=csv dataset.archive=a.csv dataset.name=mine dataset.text_width=8",
            "dataset.item_text=tfidf",
            "=null",
        ),
        ("dataset.text_fields=[title]", "dataset.item_text=tfidf", "dataset.item_text=null"),
        ("model=bert4rec objective.last=1 objective.keep=0.2", "objective.last=0.5", "objective.last=1"),
        (
            "model=ensemble model.members.lrurec.user_dropout=0.1",
            "model.members.lrurec.user_dim=4",
            "lrurec.user_dim=0",
        ),
    ],
)
def test_what_has_no_use_is_refused_until_it_has_one(idle: str, use: str, told: str) -> None:
    with pytest.raises(SeqrecError, match=r"has no effect with .*; leave it at ") as refusal:
        asked(*idle.split())
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)
    asked(*idle.split(), use)


@pytest.mark.parametrize("score", ["unit", "dot", "scaled_dot", "additive"])
def test_one_setting_is_enough_to_choose(score: str) -> None:
    asked("model=din", f"model.score={score}")


@pytest.mark.parametrize("name", names("model"))
def test_an_idle_setting_is_a_setting_of_the_model(name: str) -> None:
    model = validate("train", compose("train", [f"model={name}"])).model  # type: ignore[attr-defined]
    assert set(model.idle) <= set(config_class("model", name).model_fields)


@pytest.mark.parametrize("name", names("objective"))
def test_an_idle_setting_is_a_setting_of_the_objective(name: str) -> None:
    kind = config_class("objective", name)
    assert set(kind.from_plain(shipped("objective", name)).idle) <= set(kind.model_fields)


def test_a_former_run_that_recorded_one_is_still_read() -> None:
    plain = dump(validate("train", compose("train", ["dataset=ml-100k", "model=din"])))
    plain["model"]["search_events"] = 7
    assert validate_plain("train", plain).model.search_events == 7  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "settings",
    [
        "model=bst model.activation=dice",
        "model=bst model.batch_norm=true",
        "model=dien model.activation=prelu model.attention=unit model.unit_activation=dice",
        "model=din model.activation=prelu model.unit_activation=dice",
    ],
)
def test_statistics_of_a_batch_and_micro_batches_do_not_go_together(settings: str) -> None:
    with pytest.raises(SeqrecError, match="statistics of the whole batch"):
        asked(*settings.split(), "trainer.micro_batch_tokens=64")
    asked(*settings.split())


def test_a_unit_that_is_not_there_keeps_no_statistics() -> None:
    asked("model=din", "model.activation=prelu", "model.score=dot", "trainer.micro_batch_tokens=64")
