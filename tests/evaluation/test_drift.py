"""From an item to its users and back: a planted encoder whose states are vectors of its rows' last items."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_same_endings import HOW
from torch import Tensor
from toylog import packed

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import held_out, subsample, training_counts
from seqrec_cli.evaluation.audit.drift import Space, drift, refuse_without_vectors
from seqrec_cli.evaluation.audit.perturbed import Measuring
from seqrec_cli.evaluation.rollouts.measure import popularity_percentiles
from seqrec_cli.models.contract import Recommender, SequenceEncoder
from seqrec_cli.reporting.drift_table import drift_table

ITEMS = 6


class Planted(SequenceEncoder):
    """A state is `states_VD[item]` of the event read last; items' vectors are one-hot."""

    def __init__(self, log: PackedLog, states_VD: Tensor, bias_V: Tensor | None = None) -> None:
        super().__init__(log.catalog)
        self.states_VD, self.bias = states_VD, bias_V

    def encode(self, batch: Batch) -> Tensor:
        return self.states_VD[batch.items_BL]

    def item_table(self) -> Tensor:
        return torch.eye(ITEMS + 1)

    def item_bias(self) -> Tensor | None:
        return self.bias


def log() -> PackedLog:
    """User u meets u + 1, u + 2, ... in a cycle; the last two are held out, so four train."""
    return packed([[(user + nth) % ITEMS + 1 for nth in range(6)] for user in range(ITEMS)], ITEMS)


def toward(step: int) -> Tensor:
    """States that point at the item so many after the one read."""
    states_VD = torch.zeros(ITEMS + 1, ITEMS + 1)
    for item in range(1, ITEMS + 1):
        states_VD[item, (item - 1 + step) % ITEMS + 1] = 1
    return states_VD


def found(model: SequenceEncoder, turns: int = 3, given: PackedLog | None = None, how: Measuring = HOW) -> dict:
    answer = drift(("planted", model), given or log(), turns=turns, most=100, how=how)
    ways = {(each["way"], each["fit"]): each for each in answer.numbers["ways"]}
    return {"verdict": answer.verdict, "text": answer.found, "numbers": answer.numbers} | ways


def test_states_that_ask_for_the_next_item_bring_every_item_back_by_those_before_it() -> None:
    """Before an event the state points at it; at validation at the fifth, which the user has not had."""
    answer = found(Planted(log(), toward(1)))
    for fit in ("score", "cosine"):
        before, shown = answer["before", fit], answer["shown", fit]
        assert [row["back"] for row in before["turns"]] == [1, 1, 1]
        assert before["cosine_of_made"] == pytest.approx(1)
        assert before["median_rank_of_made"] == 1
        assert [row["neighbours"] for row in before["turns"]] == [1, 1, 1]
        assert [row["different"] for row in before["turns"]] == [ITEMS] * 3
        assert len(answer["now", fit]["turns"]) == len(shown["turns"]) == 3


def test_a_drift_of_one_item_a_turn_comes_round_after_six() -> None:
    """The state before an event points one item beyond it."""
    answer = found(Planted(log(), toward(2)), turns=6)
    assert [row["back"] for row in answer["before", "score"]["turns"]] == [0, 0, 0, 0, 0, 1]
    assert [row["cosine"] for row in answer["before", "score"]["turns"]] == pytest.approx([0, 0, 0, 0, 0, 1])
    assert answer["before", "score"]["median_rank_of_made"] > 1
    assert answer["verdict"] == "look"


def test_a_bias_draws_scores_to_one_item_and_angles_not() -> None:
    bias_V = torch.zeros(ITEMS + 1)
    bias_V[4] = 9.0
    answer = found(Planted(log(), toward(1), bias_V))
    assert [row["back"] for row in answer["before", "score"]["turns"]] == pytest.approx([1 / ITEMS] * 3)
    assert [row["different"] for row in answer["before", "score"]["turns"]] == [1, 1, 1]
    assert [row["back"] for row in answer["before", "cosine"]["turns"]] == [1, 1, 1]


def test_shown_are_the_likeliest_users_and_not_those_with_the_highest_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody's state asks for an item of their own; user 1 has one high score for all items, and is no one's."""
    monkeypatch.setattr("seqrec_cli.evaluation.audit.drift.USERS", 1)
    states_VD = toward(1) * 5
    states_VD[1] = 50.0
    answer = found(Planted(log(), states_VD))
    last = answer["shown", "score"]["turns"][0]
    assert last["back"] == pytest.approx(5 / ITEMS)  # of all items but the one that only user 1 would ask for


def test_quarters_by_training_events_and_starts_that_somebody_had() -> None:
    histories = [[1, 2, 3, 4, 5], [1, 2, 3, 5, 6], [1, 2, 5, 4, 3], [1, 3, 2, 6, 5]]
    answer = found(Planted(log(), toward(1)), given=packed(histories, ITEMS))
    numbers = answer["numbers"]
    assert numbers["starts"] == 4  # items 4 and 6 are held out alone
    parts = answer["before", "score"]["by_popularity"]
    assert [part["events"] for part in parts] == sorted(part["events"] for part in parts)
    assert sum(part["items"] for part in parts) == 4
    assert parts[-1]["events"][1] == 4
    table = drift_table(numbers)
    assert table.row_count > 6 * 3
    assert "4 items" in str(table.caption)


class Drawn(Planted):
    """With vectors of items that are not one-hot."""

    table_VD = torch.randn(ITEMS + 1, ITEMS + 1, generator=torch.Generator().manual_seed(3))

    def item_table(self) -> Tensor:
        return self.table_VD


def test_users_of_an_item_and_what_is_told_of_the_item_reached_are_those_of_a_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two users of three, who have items more than once."""
    monkeypatch.setattr("seqrec_cli.evaluation.audit.drift.NEIGHBOURS", 2)
    histories = [[1, 2, 1, 3, 4, 5], [2, 2, 3, 2, 1, 4], [3, 1, 2, 5, 6, 2]]
    given = packed(histories, ITEMS)
    how = replace(HOW, evaluation=HOW.evaluation.model_copy(update={"ranked_users": 2}))
    states_VD = torch.randn(ITEMS + 1, ITEMS + 1, generator=torch.Generator().manual_seed(0))
    model, rows = Drawn(given, states_VD), subsample(held_out(given, "val"), 2).rows_R
    trained = [histories[row][:-2] for row in rows]
    starts = sorted({item for history in trained for item in history})
    assert len(trained) == 2
    made: dict[str, dict[int, Tensor]] = {"before": {}, "now": {}}
    for item in starts:
        now = [states_VD[history[-1]] for history in trained if item in history]
        before = [states_VD[h[n - 1]] for h in trained for n in range(1, len(h)) if h[n] == item]
        made["now"][item], made["before"][item] = torch.stack(now).mean(0), torch.stack(before or now).mean(0)
    space, answer = Space.of(model, given, how), found(model, turns=1, given=given, how=how)
    percentiles_V = popularity_percentiles(training_counts(given))
    cosines_VV = F.cosine_similarity(model.table_VD[:, None], model.table_VD, dim=2)

    def near(item: int) -> set[int]:
        others = [other for other in range(1, ITEMS + 1) if other != item]
        return set(sorted(others, key=lambda other: -cosines_VV[item, other])[:2])

    for way, of_items in made.items():
        torch.testing.assert_close(space.of_log[way][starts], torch.stack([*of_items.values()]))  # type: ignore[index]
        reached = [int((vector @ model.table_VD[1:].T).argmax()) + 1 for vector in of_items.values()]
        (turn,) = answer[way, "score"]["turns"]
        assert turn["back"] == pytest.approx(np.mean(np.array(reached) == starts))
        assert turn["popularity"] == pytest.approx(percentiles_V[reached].mean())
        assert turn["different"] == len(set(reached)) < len(starts)
        assert turn["cosine"] == pytest.approx(cosines_VV[starts, reached].mean().item(), abs=1e-6)
        shares = [len(near(start) & near(item)) / 2 for start, item in zip(starts, reached, strict=True)]
        assert turn["neighbours"] == pytest.approx(np.mean(shares))
        assert 0 < turn["neighbours"] < 1
    cosines = [cosines_VV[pair].item() for pair in permutations(starts, 2)]
    assert answer["numbers"]["cosine_of_any_two"] == pytest.approx(np.mean(cosines), abs=1e-6)


def test_an_encoder_that_looks_ahead_has_no_states_before() -> None:
    model = Planted(log(), toward(1))
    model.causal = False
    assert {way for way, _ in (key for key in found(model) if isinstance(key, tuple))} == {"now", "shown"}


def test_states_that_are_no_numbers_and_models_without_vectors_are_refused(tmp_path: object) -> None:
    with pytest.raises(SeqrecError, match="NaN"):
        found(Planted(log(), toward(1) * torch.nan))
    with pytest.raises(SeqrecError, match=r"drift=2: model=told scores without vectors of users and items") as refusal:
        refuse_without_vectors("told", Recommender(log().catalog), 2)
    assert "\n" not in str(refusal.value)
    refuse_without_vectors("told", Recommender(log().catalog), 0)
    nobody = replace(log(), view=replace(log().view, val=log().view.val.at(np.zeros(0, np.int64))))  # type: ignore[type-var,union-attr]
    with pytest.raises(SeqrecError, match="nobody has a validation request"):
        found(Planted(log(), toward(1)), given=nobody)


def test_the_verb_prints_and_returns_it(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = [f"dataset.{size}" for size in ("users=40", "items=30", "categories=5", "successors=4", "max_events=12")]
    run, data = f"{tmp_path}/run", f"data_dir={tmp_path}/data"
    words = [*tiny, data, "model=sasrec", "objective=dual", "trainer.max_epochs=1", "evaluation.baselines=false"]
    seqrec_cli.run("train", [*words, f"run_dir={run}"])
    short = ["tokens=null", "endings=[]", "repetitions=1"]
    answer = seqrec_cli.run("audit", [f"ckpt={run}", *short, "drift=2"])["findings"]["drift"]
    assert len(answer["numbers"]["ways"]) == 6
    assert all(len(way["turns"]) == 2 for way in answer["numbers"]["ways"])
    assert "before score made" in " ".join(capsys.readouterr().out.split())
