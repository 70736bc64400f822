"""What a language model writes, as a proposal or as the reason why it is none."""

import json

import pytest
from stub_endpoint import numbers, trial

from seqrec_cli.tuning.answers import LONGEST_REASON, LONGEST_TEXT, UnusableError, choice_in, proposal_in
from seqrec_cli.tuning.records import Proposal

SPACE = numbers(trainer__lr=(0.0001, 0.1), model__dropout=(0, 0.6))
FIRST = {"trainer.lr": 0.01, "model.dropout": 0.2}
OTHER = {"trainer.lr": 0.02, "model.dropout": 0.2}
TRIALS = [
    trial(0, FIRST, [0.1, 0.2, 0.3]),
    trial(1, OTHER, [0.1], state="failed"),
    trial(4, {"trainer.lr": 0.05, "model.dropout": 0.1}, [0.1], state="running"),
]


def read(text: str) -> Proposal:
    return proposal_in(text, SPACE, trials=TRIALS, longest=12)


NEW = {"trainer.lr": 0.03, "model.dropout": 0}
ANSWER = json.dumps({"settings": NEW, "rationale": "why\nnot"})


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        f"Here you are:\n```json\n{ANSWER}\n```\nGood luck {{}}!",
        f"<think>maybe {json.dumps({'settings': FIRST})}?</think>{ANSWER}",
        'I looked at {"trial": 3} and {broken. ' + ANSWER,
        json.dumps({"settings": {"trainer": {"lr": 0.03}, "model": {"dropout": 0}}, "reason": "why not"}),
        json.dumps({"settings": NEW, "continues": None, "epochs": None, "rationale": "why\x1b not"}),
    ],
)
def test_settings_are_found_wherever_they_stand(text: str) -> None:
    assert read(text) == Proposal(NEW, rationale="why not")


def test_settings_for_a_length_of_their_own() -> None:
    assert read(json.dumps({"settings": NEW, "epochs": 12.0})) == Proposal(NEW, epochs=12)


def test_an_earlier_trial_for_longer() -> None:
    found = read('{"continues": 0, "epochs": 9, "rationale": "it still rose"}')
    assert found == Proposal(FIRST, epochs=9, continues=0, rationale="it still rose")
    assert read(json.dumps({"settings": FIRST, "epochs": 9})).epochs == 9  # the same, in other words


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("try a higher rate", 'no valid JSON object with "settings" or "continues"'),
        ("", "no valid JSON object"),
        ('{"settings": {"trainer.lr": 0.03, "model.dropout": 0}', "no valid JSON object"),
        ('{"settings": {"trainer.lr": NaN, "model.dropout": 0}}', "no valid JSON object"),
        ('{"a":' * 3000, "no valid JSON object"),
        ("x" * (LONGEST_TEXT + 1), "characters; at most"),
        ('{"settings": [1]}', "has to be an object"),
        ('{"settings": {}}', "trainer.lr is missing; model.dropout is missing"),
        ('{"settings": {"trainer.lr": 0.03, "model.dropout": 0, "model.depth": 2}}', "model.depth is not in the space"),
        ('{"settings": {"trainer.lr": 3, "model.dropout": 0}}', "trainer.lr=3 is not a number from 0.0001 to 0.1"),
        ('{"settings": {"trainer.lr": 1e999, "model.dropout": 0}}', "trainer.lr=inf is not a number"),
        ('{"settings": {"trainer.lr": "high", "model.dropout": 0}}', "trainer.lr=high is not a number"),
        (json.dumps({"settings": FIRST}), "trial 0 already has these settings"),
        (json.dumps({"settings": FIRST | {"trainer.lr": 0.01 + 1e-10}}), "trial 0 already has these settings"),
        (json.dumps({"settings": OTHER}), "trial 1 already has these settings"),
        (json.dumps({"settings": NEW, "epochs": 13}), '"epochs" is 13; it may be from 1 to 12'),
        (json.dumps({"settings": NEW, "epochs": 2.5}), '"epochs" has to be a whole number'),
        (json.dumps({"settings": NEW, "epochs": True}), '"epochs" has to be a whole number'),
        (json.dumps({"settings": NEW, "continues": 0, "epochs": 9}), 'either "settings" or "continues"'),
        ('{"continues": 0}', '"epochs" has to be a whole number'),
        ('{"continues": "0", "epochs": 9}', '"continues" has to be a whole number'),
        ('{"continues": 7, "epochs": 9}', "there is no such trial"),
        ('{"continues": 1, "epochs": 9}', "that trial is failed"),
        ('{"continues": 4, "epochs": 9}', "that trial is running"),
        ('{"continues": 0, "epochs": 3}', "trial 0 was given 3 with the same settings"),
    ],
)
def test_what_cannot_be_followed(text: str, why: str) -> None:
    with pytest.raises(UnusableError) as caught:
        read(text)
    assert why in str(caught.value)


def test_a_rationale_is_one_line_and_not_a_book() -> None:
    found = read(json.dumps({"settings": NEW, "rationale": "\x1b[31m so\r\n" + "ab " * 2000}))
    assert found.rationale.startswith("[31m so ab ab")
    assert len(found.rationale) <= LONGEST_REASON


def test_the_final_word_is_about_a_complete_trial_with_reasons() -> None:
    assert choice_in('{"trial": 0, "reasons": "flat at the end"}', TRIALS) == (TRIALS[0], "flat at the end")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"trial": 1, "reasons": "x"}', "it is failed"),
        ('{"trial": 9, "reasons": "x"}', "there is no such trial"),
        ('{"trial": 0}', '"reasons" is empty'),
        ('{"trial": null, "reasons": "x"}', "whole number"),
    ],
)
def test_final_words_that_are_none(text: str, why: str) -> None:
    with pytest.raises(UnusableError) as caught:
        choice_in(text, TRIALS)
    assert why in str(caught.value)
