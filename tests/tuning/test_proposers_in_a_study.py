"""Adviser and horizons inside a study whose runs are a formula: who named what, how far it went, and that it ends."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from stub_endpoint import KEY, VARIABLE, WRONG, Endpoint, adviser_config, greedy, numbers

from seqrec_cli.config.horizon import HorizonConfig
from seqrec_cli.config.tuning import TuneSettings
from seqrec_cli.config.validate import dump
from seqrec_cli.tuning import adviser
from seqrec_cli.tuning.advice import Advice, final_word, lines_of, unused
from seqrec_cli.tuning.adviser import Adviser
from seqrec_cli.tuning.briefing import Task
from seqrec_cli.tuning.horizons import Horizons
from seqrec_cli.tuning.records import Proposer, TrialRecord
from seqrec_cli.tuning.study import Claim, Outcome, Study
from seqrec_cli.tuning.worker import work

SPACE = numbers(trainer__lr=(0, 1), model__dropout=(0, 0.6))
EPOCHS = 4
TASK = Task("a formula", "ndcg@10", epochs=EPOCHS, longest=4 * EPOCHS, budget="trials", statistics={"users": 3})
Value = Callable[[dict[str, Any], int], float]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adviser, "PAUSE", 0.0)
    monkeypatch.setenv(VARIABLE, KEY)


def settings(**changes: Any) -> TuneSettings:
    plain = {
        "sampler": "adviser", "pruner": "none", "trials": 8, "minutes": None, "epochs": None, "workers": 1,
        "storage": "journal", "seed": 0, "startup": 3, "warmup": 0.3, "patience": 0.4, "retries": 1, "keep": "best",
        "test": "none", "horizon": {"epochs": None, "factor": 2, "checks": 1, "agreement": 0.7},
        "adviser": dump(adviser_config(None)),
    }  # fmt: skip
    return TuneSettings.from_plain(plain | changes)


def valley(named: dict[str, Any], epochs: int) -> float:
    """Best at a rate of .8 without dropout, and better the longer it runs."""
    return (1 - (named["trainer.lr"] - 0.8) ** 2 - named["model.dropout"] ** 2) * epochs / (epochs + 1)


def run(
    folder: Path, proposers: Sequence[Proposer], value: Value = valley, **changes: Any
) -> tuple[Study, list[TrialRecord]]:
    """A study to its end, whose runs are worth `value`; each leaves the curve that a real one leaves."""
    horizon = next((each for each in proposers if isinstance(each, Horizons)), None)
    study = Study(
        folder, SPACE, settings(**changes), metric="ndcg@10", maximise=True, proposers=proposers, horizon=horizon
    )

    def run_trial(claim: Claim) -> Outcome:
        claim.folder.mkdir(parents=True)
        epochs = claim.epochs or EPOCHS
        rows = [
            {
                "epoch": at,
                "step": at,
                "split": "val",
                "ndcg@10": value(claim.settings, at),
                "loss": 1 / at,
                "seconds": at,
            }
            for at in range(1, epochs + 1)
        ]
        for done, row in enumerate(rows, 1):
            with (claim.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            if claim.watch(row["ndcg@10"], done / epochs):
                return Outcome("pruned", followed=epochs)
        return Outcome("complete", rows[-1]["ndcg@10"], followed=epochs)

    assert work(study, run_trial, lambda line: None)
    return study, study.records()


def asking(endpoint: Endpoint, said: list[str], folder: Path, **changes: Any) -> Adviser:
    return Adviser(adviser_config(endpoint.url, **changes), SPACE, TASK, said.append, folder / "adviser.jsonl")


def test_an_adviser_that_plays_well_names_every_trial_and_has_the_final_word(tmp_path: Path) -> None:
    said: list[str] = []
    with Endpoint(greedy) as endpoint:
        study, records = run(tmp_path, [asking(endpoint, said, tmp_path)], trials=14)
        best = study.best()
        assert best is not None
        final = final_word(study.proposers, records, tmp_path)
        asked = len(endpoint.asked)
        assert final_word(study.proposers, records, tmp_path) == final  # from the folder
        assert len(endpoint.asked) == asked == 15
    assert said == []
    assert {each.proposed_by for each in records} == {"adviser"}
    assert len(records) == 14
    assert best.value is not None
    assert records[0].value is not None
    assert best.value > 0.78 > records[0].value
    assert final is not None
    lines = lines_of(study.proposers, records)
    assert lines == ["the adviser named 14 of 14 trials"]
    told = Advice(records, best, "ndcg@10", lines=lines, final=final, unused=unused(tmp_path))
    assert told.all_lines()[1].startswith(f"the adviser's final configuration: trial {best.number} (ndcg@10 0.")
    text = told.markdown()
    assert "Answers that were not used" not in text
    assert "because: It has the best value" in text
    assert text.count("near the best so far, with another") == 13
    assert KEY not in text


def test_an_adviser_that_plays_badly_ends_by_tpe_and_every_fault_was_said(tmp_path: Path) -> None:
    said: list[str] = []
    replies = iter(WRONG * 2)
    with Endpoint(lambda _: next(replies)) as endpoint:
        named = asking(endpoint, said, tmp_path, give_up=5, timeout=1.0)
        study, records = run(tmp_path, [named], trials=8)
        assert final_word(study.proposers, records, tmp_path) is None
    assert [each.proposed_by for each in records] == ["tpe"] * 8
    assert [each.state for each in records] == ["complete"] * 8
    assert [line.rpartition("; ")[2] for line in said] == ["TPE names this trial"] * 4 + ["TPE goes on alone"]
    assert len(endpoint.asked) == len(WRONG)
    refused = [json.loads(line)["refused"] for line in (tmp_path / "adviser.jsonl").read_text().splitlines()]
    assert len(refused) == len(WRONG)
    assert all(refused)
    lines = lines_of(study.proposers, records)
    assert lines == ["the adviser named 0 of 8 trials, TPE the others"]
    told = Advice(records, records[0], "ndcg@10", lines=lines, final=None, unused=unused(tmp_path))
    text = told.markdown()
    assert "&lt;html&gt;&lt;body&gt;Sign in" in "".join(told.html())
    assert "- 127.0.0.1:" in text.partition("## Answers that were not used")[2]
    assert 'the answer holds no valid JSON object with "settings" or "continues"' in text


def test_trials_of_both_are_told_apart(tmp_path: Path) -> None:
    turns = iter(range(100))
    said: list[str] = []
    with Endpoint(lambda messages: greedy(messages) if next(turns) % 3 == 0 else "well") as endpoint:
        _, records = run(tmp_path, [asking(endpoint, said, tmp_path)], trials=6)
    assert [each.proposed_by for each in records] == ["adviser", "tpe", "adviser", "tpe", "adviser", "tpe"]
    assert [bool(each.rationale) for each in records] == [True, False] * 3


def test_an_earlier_trial_is_followed_for_as_long_as_was_asked_and_never_ended_early(tmp_path: Path) -> None:
    answers = [
        *({"settings": {"trainer.lr": 0.8 - 0.01 * nth, "model.dropout": 0.0}} for nth in range(4)),
        {"settings": {"trainer.lr": 0.1, "model.dropout": 0.5}, "rationale": "to be sure"},
        {"continues": 4, "epochs": 16, "rationale": "it may come late"},
    ]
    replies = iter(map(json.dumps, answers))
    with Endpoint(lambda _: next(replies)) as endpoint:
        named = asking(endpoint, [], tmp_path)
        _, records = run(tmp_path, [named], trials=6, pruner="median", startup=1, warmup=0.0)
    assert (records[4].state, records[4].followed) == ("pruned", EPOCHS)
    assert (records[5].state, records[5].followed, records[5].continues) == ("complete", 16, 4)
    assert records[5].settings == records[4].settings
    assert "#4 pruned, named by adviser, followed 4 epochs" in endpoint.asked[5]["messages"][1]["content"]


def horizons(said: list[str], **changes: Any) -> Horizons:
    plain = {"epochs": 1, "factor": 2, "checks": 1, "agreement": 0.7} | changes
    return Horizons(HorizonConfig.from_plain(plain), "ndcg@10", EPOCHS, said.append)


def test_short_runs_are_promoted_and_the_best_is_a_long_one(tmp_path: Path) -> None:
    said: list[str] = []
    study, records = run(tmp_path, [horizons(said)], trials=16, sampler="tpe")
    by_length = {epochs: sum(each.followed == epochs for each in records) for epochs in (1, 2, 4)}
    assert by_length[1] > by_length[2] > by_length[4] > 0
    for each in records:
        assert (each.proposed_by == "horizon") == (each.followed > 1) == (each.continues is not None)
        if each.continues is not None:
            assert records[each.continues].settings == each.settings
            assert records[each.continues].followed < each.followed
    best = study.best()
    assert best is not None
    assert best.followed == EPOCHS
    assert said == []
    assert any(
        line.startswith("1 against 2 epochs: rank correlation 1.00") for line in lines_of([*study.proposers], records)
    )


def test_short_runs_that_mislead_make_the_later_ones_longer(tmp_path: Path) -> None:
    def late(named: dict[str, Any], epochs: int) -> float:
        return valley(named, epochs) if epochs > 1 else 1 - valley(named, 1)

    said: list[str] = []
    _, records = run(tmp_path, [horizons(said, checks=3)], late, trials=24, sampler="random")
    assert len(said) == 1
    assert "runs of 1 and 2 epochs order" in said[0]
    new = [each.followed for each in records if each.continues is None]
    assert new == sorted(new)
    assert {1, 2} <= set(new)


def test_an_adviser_beside_horizons_is_told_the_short_length(tmp_path: Path) -> None:
    said: list[str] = []
    with Endpoint(greedy) as endpoint:
        both = horizons(said)
        named = Adviser(adviser_config(endpoint.url), SPACE, TASK, said.append, None, both)
        _, records = run(tmp_path, [both, named], trials=6)
    assert {each.proposed_by for each in records} == {"adviser", "horizon"}
    assert "A new trial runs 1 epochs" in endpoint.asked[0]["messages"][0]["content"]


def test_a_final_word_for_another_trial_than_the_best_says_so(tmp_path: Path) -> None:
    def plays(messages: list[dict[str, str]]) -> str:
        if "budget is spent" in messages[1]["content"]:
            return '{"trial": 0, "reasons": "it is simpler"}'
        return greedy(messages)

    with Endpoint(plays) as endpoint:
        study, records = run(tmp_path, [asking(endpoint, [], tmp_path)], trials=3)
        final, best = final_word(study.proposers, records, tmp_path), study.best()
    assert final is not None
    assert best is not None
    assert best.number != 0
    line = Advice(records, best, "ndcg@10", lines=[], final=final, unused=unused(tmp_path)).all_lines()[0]
    assert f"; the best by validation is trial {best.number}): trainer.lr=0.5" in line
    assert line.endswith("because: it is simpler")
