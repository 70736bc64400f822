"""Settings written `auto`: what the rule makes of a log, what stands in a run, and that each can be given instead."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from seqrec_cli import cli
from seqrec_cli.commands.settle import facts_of, settle
from seqrec_cli.config.auto import settled, with_nominal
from seqrec_cli.config.auto_rule import NOMINAL, Facts, rule
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate, validate_plain
from seqrec_cli.data.view import LabelledRows
from tests.toylog import packed

REVIEWS = Facts(items=160, events=1_600, rows=350, longest=10, requests=340)
RATINGS = Facts(items=1_680, events=98_000, rows=2_400, longest=300, requests=940)
SHOP = Facts(items=180_000, events=510_000, rows=25_000, longest=36, requests=25_000)


def of(facts: Facts, *overrides: str) -> dict[str, Any]:
    """What such a log would settle, checked as a run's configuration is."""
    plain = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)
    assert isinstance(plain, dict)
    words = with_nominal(plain)["auto"]  # type: ignore[arg-type]
    found = settled(plain, words, facts)  # type: ignore[arg-type]
    validate_plain("train", found)
    return found


def test_an_encoders_settings_grow_with_the_log() -> None:
    few, some, many = of(REVIEWS), of(RATINGS), of(SHOP)
    numbers = rule().kinds["encoder"]
    assert [found["model"]["max_length"] for found in (few, some, many)] == [9, 20, 40]
    assert few["model"]["embed_dim"] < some["model"]["embed_dim"]
    assert few["model"]["dropout"] > some["model"]["dropout"] > many["model"]["dropout"]
    assert [found["trainer"]["batch_size"] for found in (few, some, many)] == [16, 32, 128]
    assert [found["objective"]["negatives"] for found in (few, some, many)] == [None, None, 1024]
    assert [found["evaluation"]["ranked_users"] for found in (few, some, many)] == [None, None, 1_111]
    for found, facts in ((few, REVIEWS), (some, RATINGS), (many, SHOP)):
        an_epoch = -(-facts.rows // found["trainer"]["batch_size"])
        steps = found["trainer"]["max_epochs"] * an_epoch
        assert numbers.steps[0] - an_epoch <= steps <= numbers.steps[1] + an_epoch
        assert found["trainer"]["warmup_steps"] <= 0.05 * steps + 1
        validations = found["trainer"]["max_epochs"] / found["trainer"]["evaluate_every"]
        assert 0.25 * validations <= found["trainer"]["patience"] <= 0.45 * validations


def test_a_batch_is_smaller_than_the_log_and_a_power_of_two() -> None:
    for rows in (1, 30, 500, 4_000, 10**6):
        size = of(RATINGS._replace(rows=rows))["trainer"]["batch_size"]
        assert 16 <= size <= 128
        assert size & (size - 1) == 0


@pytest.mark.parametrize("word", ["fast", "thorough"])
def test_words_change_the_length_of_a_run(word: str) -> None:
    usual, other = of(RATINGS), of(RATINGS, f"trainer={word}")
    ratio = rule().efforts[word].epochs  # type: ignore[index]
    assert other["trainer"]["max_epochs"] == pytest.approx(ratio * usual["trainer"]["max_epochs"], rel=0.05)
    assert other["model"] == usual["model"]
    one = of(RATINGS, f"trainer.max_epochs={word}")
    assert one["trainer"]["max_epochs"] == other["trainer"]["max_epochs"]


@pytest.mark.parametrize(
    "given",
    [
        "model.max_length=7",
        "model.embed_dim=48",
        "model.ffn_dim=31",
        "model.blocks=3",
        "model.dropout=0.11",
        "model.temperature=null",
        "objective.negatives=99",
        "trainer.batch_size=8",
        "trainer.max_epochs=3",
        "trainer.evaluate_every=2",
        "trainer.patience=5",
        "trainer.warmup_steps=9",
        "trainer.lr=0.5",
        "trainer.weight_decay=0.3",
        "trainer.bucket_by_length=false",
        "trainer.monitor=hr@10",
        "evaluation.ranked_users=17",
    ],
)
def test_each_setting_can_be_given_alone(given: str) -> None:
    name, _, value = given.partition("=")
    group, key = name.split(".")
    found = of(RATINGS, given)
    assert found[group][key] == yaml.safe_load(value)
    assert name not in with_nominal(OmegaConf.to_container(compose("train", [given]), resolve=True))["auto"]  # type: ignore[arg-type, index]


def test_what_follows_from_a_given_setting_follows_from_it() -> None:
    assert of(RATINGS, "model.embed_dim=48")["model"]["ffn_dim"] == 192
    assert of(RATINGS, "trainer.max_epochs=5")["trainer"]["evaluate_every"] == 1
    assert of(RATINGS, "trainer.batch_size=2400")["trainer"]["max_epochs"] == rule().kinds["encoder"].steps[0]
    assert of(RATINGS, "model.heads=7")["model"]["embed_dim"] % 14 == 0
    assert of(RATINGS, "trainer.plateau=20")["trainer"]["patience"] == 21
    assert of(RATINGS, "trainer.max_steps=40")["trainer"]["warmup_steps"] == 2
    assert of(SHOP, "objective.smoothing=0.1")["objective"]["negatives"] is None


def test_the_mlp_drops_as_the_model_does() -> None:
    found = of(RATINGS, "model=bst")["model"]
    assert found["mlp_dropout"] == found["dropout"] > 0
    assert of(RATINGS, "model=bst", "model.dropout=0.07")["model"]["mlp_dropout"] == 0.07
    assert of(RATINGS, "model=bst", "model.mlp_dropout=0.07")["model"]["mlp_dropout"] == 0.07


def test_attention_drops_as_the_model_does_where_both_are_left_to_the_data() -> None:
    found = of(RATINGS, "model=bsarec")["model"]
    assert found["attention_dropout"] == found["dropout"] > of(SHOP, "model=bsarec")["model"]["attention_dropout"] > 0
    assert of(RATINGS, "model=bsarec", "model.attention_dropout=0.07")["model"]["attention_dropout"] == 0.07
    assert of(RATINGS)["model"]["attention_dropout"] == 0


@pytest.mark.parametrize("model", ["sasrec", "lrurec", "esasrec"])
def test_blocks_are_more_where_events_are_many(model: str) -> None:
    assert [of(facts, f"model={model}")["model"]["blocks"] for facts in (REVIEWS, RATINGS, SHOP)] == [1, 1, 2]


@pytest.mark.parametrize("objective", ["next_item", "sampled_softmax"])
def test_one_target_a_row_has_numbers_of_its_own(objective: str) -> None:
    """Whichever the model; over inner products, though a softmax reads them."""
    words = [f"objective={objective}", "objective.window=prefixes"]
    one, every = of(RATINGS, *words), of(RATINGS, words[0])
    numbers = rule().kinds["prefixes"]
    assert one["model"]["temperature"] is None
    assert one["model"]["blocks"] > every["model"]["blocks"]
    assert one["model"]["dropout"] > every["model"]["dropout"]
    assert one["trainer"]["weight_decay"] == numbers.weight_decay != every["trainer"]["weight_decay"]
    assert of(RATINGS._replace(rows=10**6), *words)["trainer"]["batch_size"] == numbers.batch_size[1]


def test_members_are_settled_like_models() -> None:
    model = of(RATINGS, "model=ensemble", "model.members.lrurec.dropout=0.6")["model"]
    alone = of(RATINGS)["model"]
    assert {name: member["dropout"] for name, member in model["members"].items()} == {
        "sasrec": alone["dropout"],
        "lrurec": 0.6,
        "gru4rec": alone["dropout"],
    }
    assert all(member["embed_dim"] == alone["embed_dim"] for member in model["members"].values())
    assert of(RATINGS, "model=ensemble", "model.max_length=9")["model"]["members"]["sasrec"]["max_length"] == 9


@pytest.mark.parametrize(
    ("objective", "temperature"), [("next_item", 0.05), ("sampled_softmax", 0.05), ("distil", 0.05), ("bce", None)]
)
def test_scores_are_cosines_where_a_softmax_reads_them(objective: str, temperature: float | None) -> None:
    teacher = ["objective.teacher=outputs/teacher"] if objective == "distil" else []
    assert of(RATINGS, f"objective={objective}", *teacher)["model"]["temperature"] == temperature


def test_a_ranker_of_a_large_catalogue_is_chosen_by_candidates() -> None:
    assert of(RATINGS, "model=din")["trainer"]["monitor"] == "ndcg@10"
    found = of(SHOP, "model=din")
    assert (found["trainer"]["monitor"], found["evaluation"]["ranked_users"]) == ("auc", 50)
    assert of(SHOP, "model=din", "evaluation.ranked_users=null")["trainer"]["monitor"] == "ndcg@10"


def test_before_the_data_are_known_a_log_of_middling_size_is_taken() -> None:
    cfg = validate("train", compose("train", []))
    assert cfg.trainer.batch_size == of(NOMINAL)["trainer"]["batch_size"]  # type: ignore[attr-defined]
    assert "trainer.batch_size" in cfg.auto  # type: ignore[attr-defined]


TINY = ["dataset=synthetic", "dataset.users=60", "dataset.items=40", "trainer.max_epochs=2", "hardware.device=cpu"]


def test_a_run_holds_numbers_that_its_resumption_keeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    quick = [*TINY, "evaluation.test=none", "evaluation.baselines=false", f"data_dir={tmp_path}", f"run_dir={run}"]
    assert cli.main(["train", *quick]) == 0
    told = capsys.readouterr().out
    (line,) = [line for line in told.splitlines() if line.startswith("auto: at most")]
    sealed = yaml.safe_load((run / "config.yaml").read_text())
    assert sealed["auto"] == {}
    assert not {"auto", "fast", "thorough"} & set(words_of(sealed))
    assert f"trainer.batch_size={sealed['trainer']['batch_size']}" in line
    assert sealed["trainer"]["max_epochs"] == 2
    assert "trainer.max_epochs=" not in line  # given, not settled
    assert cli.main(["train", f"resume={run}"]) == 0
    assert "auto: at most" not in capsys.readouterr().out
    assert yaml.safe_load((run / "config.yaml").read_text()) | {"resume": None} == sealed | {"resume": None}


def words_of(section: Any) -> list[str]:
    """The texts of a record but for `hardware` and `dataset.engine`, whose `auto` is the machine's."""
    if isinstance(section, dict):
        kept = [value for key, value in section.items() if key not in ("hardware", "engine")]
        return [word for value in kept for word in words_of(value)]
    return [section] if isinstance(section, str) else []


def test_a_bad_setting_is_refused_before_data_are_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *TINY, f"data_dir={tmp_path}", "model.heads=5", "model.embed_dim=64"]) == 2
    assert "model.embed_dim=64" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_protocol_with_training_rows_of_its_own_gets_no_more_negatives() -> None:
    assert of(RATINGS, "model=din")["objective"]["negatives"] == 16
    assert of(RATINGS, "model=din", "protocol=positions")["objective"]["negatives"] == 1
    assert of(RATINGS, "model=din", "protocol=positions", "objective.redraw=true")["objective"]["negatives"] == 16


@pytest.mark.parametrize("given", ["trainer.lr=fast", "model.dropout=thorough", "objective.negatives=fast"])
def test_words_of_a_runs_length_are_no_other_settings(given: str) -> None:
    with pytest.raises(SeqrecError, match=given):
        validate("train", compose("train", ["model=sasrec", given]))


LENGTHS = [5, 3, 2, 30]  # the third has nothing held out


def test_facts_are_of_what_trains() -> None:
    log = packed([list(range(1, n + 1)) for n in LENGTHS], 30)
    encoder = validate("train", compose("train", ["model=sasrec", "objective.window=last"]))
    ranker = validate("train", compose("train", ["model=din"]))
    found = facts_of(encoder, log)  # type: ignore[arg-type]
    lengths = [3, 1, 2, 28]
    assert found == Facts(items=30, events=34, rows=3, longest=24, requests=3)
    prefixes = validate("train", compose("train", ["model=sasrec", "objective.window=prefixes"]))
    assert facts_of(prefixes, log) == found._replace(rows=sum(n - 1 for n in lengths))  # type: ignore[arg-type]
    assert facts_of(ranker, log) == found._replace(rows=sum(n - 1 for n in lengths))  # type: ignore[arg-type]
    assert log.view is not None
    two = LabelledRows(np.array([0, 3]), np.array([1, 12]), np.array([[2], [3]]), np.array([[1.0], [1.0]]))
    labelled = replace(log, view=replace(log.view, clicks={"train": two}))
    assert facts_of(ranker, labelled).rows == 2  # type: ignore[arg-type]


def test_rows_are_counted_by_the_settled_length() -> None:
    """By the length that a configuration is checked with, the long history would be far fewer windows."""
    log = packed([list(range(1, n + 1)) for n in [8] * 39 + [103]], 103)
    cfg = validate("train", compose("train", ["model=sasrec", "objective.window=sliding"]))
    assert isinstance(cfg, TrainConfig)
    said: list[str] = []
    found = settle(cfg, log, tell=said.append)
    assert (cfg.model.max_length, found.model.max_length) == (50, 5)
    assert "by 59 rows and 335 training events" in said[0]
    assert f"model.blocks={found.model.blocks}" in said[0]  # type: ignore[attr-defined]
    assert found.auto == {}


@pytest.mark.parametrize("model", ["sasrec", "din"])
def test_few_events_are_learnt_at_a_higher_rate(model: str) -> None:
    rate = of(REVIEWS, f"model={model}")["trainer"]["lr"]
    assert rate > of(SHOP, f"model={model}")["trainer"]["lr"]
    assert rate == of(REVIEWS._replace(items=SHOP.items), f"model={model}")["trainer"]["lr"]


def test_a_ranker_of_logged_labels_is_chosen_by_them() -> None:
    labels = ("dataset=csv", "dataset.archive=log.csv", "dataset.label_column=clicked", "protocol=impressions")
    assert of(RATINGS, "model=din", *labels)["trainer"]["monitor"] == "auc"
    assert of(RATINGS, "model=sasrec", *labels)["trainer"]["monitor"] == "ndcg@10"


def test_histories_that_are_short_are_not_cut() -> None:
    # a row's last event is its target: nothing is read beyond what was trained
    lengths = {long: of(RATINGS._replace(longest=long))["model"]["max_length"] for long in (1, 2, 8, 30, 31, 300)}
    assert lengths == {1: 1, 2: 1, 8: 7, 30: 30, 31: 20, 300: 20}
    masked = {long: of(RATINGS._replace(longest=long), "model=bert4rec")["model"]["max_length"] for long in (1, 2, 8)}
    assert masked == {1: 2, 2: 2, 8: 8}
