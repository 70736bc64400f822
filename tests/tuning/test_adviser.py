"""The adviser: told of every trial, given one more chance, left to TPE in one line, not asked in vain for long."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stub_endpoint import KEY, VARIABLE, Endpoint, Reply, adviser_config, greedy, numbers, trial

from seqrec_cli.tuning import adviser
from seqrec_cli.tuning.adviser import Adviser
from seqrec_cli.tuning.briefing import BEST, LATEST, OTHERS, POINTS, Task, task_in_words, trials_in_words
from seqrec_cli.tuning.records import Proposal, TrialRecord

SPACE = numbers(trainer__lr=(0, 1), model__dropout=(0, 0.6))
TASK = Task(
    about="model=sasrec, dataset=toy",
    metric="ndcg@10",
    epochs=5,
    longest=20,
    budget="40 trials",
    statistics={"users": 60, "events a user": "12.5 on average"},
)
GOOD = {"trainer.lr": 0.5, "model.dropout": 0.3}
TRIALS = [trial(0, {"trainer.lr": 0.1, "model.dropout": 0.1}, [0.1, 0.2])]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adviser, "PAUSE", 0.0)
    monkeypatch.setenv(VARIABLE, KEY)


class Asked:
    """An adviser whose endpoint plays so, and what it said."""

    def __init__(self, play: Callable[[Any], Any], endpoint: Endpoint, log: Path | None = None, **changes: Any) -> None:
        self.lines: list[str] = []
        self.endpoint = endpoint
        self.adviser = Adviser(adviser_config(endpoint.url, **changes), SPACE, TASK, self.lines.append, log)


def one_after_another(*replies: Any) -> Callable[[Any], Any]:
    waiting = list(replies)
    return lambda _: waiting.pop(0)


def ask(*replies: Any, trials: list[TrialRecord] = TRIALS, **changes: Any) -> tuple[Proposal | None, Asked]:
    play = one_after_another(*replies)
    with Endpoint(play) as endpoint:
        asked = Asked(play, endpoint, **changes)
        return asked.adviser.propose(trials), asked


def test_a_good_answer_is_the_next_trial_with_its_rationale() -> None:
    found, asked = ask(json.dumps({"settings": GOOD, "rationale": "a larger rate"}))
    assert found == Proposal(GOOD, rationale="a larger rate")
    assert asked.lines == []
    told = "\n".join(message["content"] for message in asked.endpoint.asked[0]["messages"])
    for said in ("best ndcg@10 on validation (higher", "40 trials", "users: 60", "trainer.lr: a number from 0 to 1"):
        assert said in told
    assert "#0 complete" in told


def test_a_wrong_answer_is_given_back_once_with_the_reason() -> None:
    found, asked = ask('{"settings": {"trainer.lr": 7}}', json.dumps({"settings": GOOD}))
    assert found == Proposal(GOOD)
    assert asked.lines == []
    *_, answer, reason = asked.endpoint.asked[1]["messages"]
    assert answer == {"role": "assistant", "content": '{"settings": {"trainer.lr": 7}}'}
    assert "trainer.lr=7 is not a number from 0 to 1; model.dropout is missing" in reason["content"]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("I think you should try harder.", "its answer cannot be used (the answer holds no valid JSON object"),
        (Reply(500, b"oops"), "answered 500: oops"),
        (Reply(200, b"<html>login</html>"), "does not answer as /chat/completions does"),
        (Reply(seconds=1.0), "did not answer within 0.2 s"),
        (json.dumps({"settings": TRIALS[0].settings}), "trial 0 already has these settings"),
    ],
)
def test_two_failures_leave_the_trial_to_tpe_in_one_line(reply: Any, said: str) -> None:
    found, asked = ask(reply, reply, timeout=0.2 if isinstance(reply, Reply) else 5.0)
    assert found is None
    (line,) = asked.lines
    assert line.startswith("adviser: ")
    assert said in line
    assert line.endswith("; TPE names this trial")
    assert len(asked.endpoint.asked) == 2


def test_after_trials_in_a_row_without_an_answer_it_is_asked_no_more() -> None:
    with Endpoint(lambda _: "nonsense") as endpoint:
        asked = Asked(None, endpoint, give_up=2)
        assert [asked.adviser.propose(TRIALS) for _ in range(4)] == [None] * 4
        assert asked.adviser.conclude(TRIALS) is None
        assert len(endpoint.asked) == 4
        assert [line.rpartition("; ")[2] for line in asked.lines] == ["TPE names this trial", "TPE goes on alone"]
        assert "2 trials in a row" in asked.lines[1]


def test_a_good_answer_in_between_counts_anew() -> None:
    good = [json.dumps({"settings": GOOD | {"trainer.lr": rate}}) for rate in (0.2, 0.3)]
    play = one_after_another("no", "no", good[0], "no", "no", good[1])
    with Endpoint(play) as endpoint:
        asked = Asked(play, endpoint, give_up=2)
        assert [asked.adviser.propose(TRIALS) is None for _ in range(4)] == [True, False, True, False]


def test_a_refused_key_is_refused_once() -> None:
    with Endpoint(lambda _: Reply(401, f'{{"error": {{"message": "bad key {KEY}"}}}}'.encode())) as endpoint:
        asked = Asked(None, endpoint)
        assert [asked.adviser.propose(TRIALS) for _ in range(3)] == [None] * 3
        assert len(endpoint.asked) == 1
        (line,) = asked.lines
        assert line.endswith("it refuses the key; bad key ***; TPE goes on alone")


def test_the_final_word_and_its_absence() -> None:
    with Endpoint(greedy) as endpoint:
        asked = Asked(greedy, endpoint)
        final = asked.adviser.conclude(TRIALS)
        assert final is not None
        assert (final.trial.number, final.reasons[:10]) == (0, "It has the")
        assert asked.adviser.conclude([]) is None
    with Endpoint(lambda _: "whatever") as endpoint:
        asked = Asked(None, endpoint)
        assert asked.adviser.conclude(TRIALS) is None
        assert asked.lines[0].endswith("no final word of it, the best by validation stands")


def test_the_log_has_questions_answers_and_refusals_but_no_key(tmp_path: Path) -> None:
    log = tmp_path / "study" / "adviser.jsonl"
    play = one_after_another(f"what is {KEY}?", json.dumps({"settings": GOOD, "rationale": f"since {KEY}"}))
    with Endpoint(play) as endpoint:
        found = Asked(play, endpoint, log).adviser.propose(TRIALS)
    assert found is not None
    assert found.rationale == "since ***"
    text = log.read_text(encoding="utf-8")
    assert KEY not in text
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["refused"] is None for row in rows] == [False, True]
    assert "what is ***?" in rows[0]["answered"]
    assert [message["role"] for message in rows[0]["asked"]] == ["system", "user"]
    assert [message["role"] for message in rows[1]["asked"]] == ["user", "assistant", "user"]


def test_a_curve_is_told_thinly_with_its_peak_its_length_and_its_over_fitting() -> None:
    values = [0.1 + 0.001 * nth if nth < 37 else 0.13 - 0.0005 * nth for nth in range(60)]
    losses = [6 - 0.05 * nth if nth < 20 else 5 + 0.02 * (nth - 20) for nth in range(60)]
    told = trials_in_words([trial(3, GOOD, values, losses=losses)], "ndcg@10")
    assert "followed 60 epochs; best ndcg@10 0.1360 at epoch 37;" in told
    (curve,) = [line for line in told.splitlines() if line.startswith("  ndcg@10 by epoch")]
    epochs = [int(point.split(":")[0]) for point in curve.partition("epoch: ")[2].split(", ")]
    assert len(epochs) <= POINTS
    assert {1, 37, 60} <= set(epochs)
    assert "over-fits: validation loss is lowest at epoch 21 and 16% above that at epoch 60; ndcg@10 is best" in told


def test_a_peak_at_the_last_validation_may_still_rise() -> None:
    told = trials_in_words([trial(0, GOOD, [0.1, 0.2])], "ndcg@10")
    assert "best ndcg@10 0.2000 at epoch 2, its last validation, so it may still rise" in told


def test_of_many_trials_the_best_and_latest_have_curves_and_the_rest_a_line() -> None:
    count = BEST + LATEST + OTHERS + 30
    trials = [trial(nth, GOOD, [0.001 * (count - nth)]) for nth in range(count)]
    told = trials_in_words(trials, "ndcg@10")
    assert told.count("ndcg@10 by epoch") == BEST + LATEST
    assert told.count("\n#") == BEST + LATEST + OTHERS
    assert "(30 more trials" in told
    assert told.endswith("The best so far is trial 0.")
    assert trials_in_words(trials, "logloss").endswith(f"The best so far is trial {count - 1}.")


def test_an_error_is_told_without_paths() -> None:
    failed = trial(0, GOOD, [], state="failed", error="the loss is not finite; see /data/me/trials/0000/error.txt")
    told = trials_in_words([failed], "ndcg@10")
    assert "#0 failed, named by tpe, followed 0 epochs; error: the loss is not finite; see ...; settings {" in told


def test_a_lower_metric_is_asked_for_as_such() -> None:
    task = Task("x", "logloss", epochs=1, longest=4, budget="", statistics={})
    assert "logloss on validation (lower is better)" in task_in_words(task, SPACE)["content"]


def test_the_greedy_stub_climbs() -> None:
    """The well-playing stub reads nothing but what it is told: the briefing is enough to play by."""

    def value(settings: dict[str, float]) -> float:
        return 1 - (settings["trainer.lr"] - 0.85) ** 2 - (settings["model.dropout"] - 0.1) ** 2

    trials: list[TrialRecord] = []
    with Endpoint(greedy) as endpoint:
        asked = Asked(greedy, endpoint)
        for number in range(16):
            found = asked.adviser.propose(trials)
            assert found is not None
            trials.append(trial(number, found.settings, [value(found.settings)]))
        final = asked.adviser.conclude(trials)
    assert asked.lines == []
    assert final is not None
    assert final.trial.value is not None
    assert final.trial.value > 0.99 > (trials[0].value or 0)
