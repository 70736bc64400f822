"""Generated events: a cycle is gone round, a beam finds what greedy misses, draws follow chances and seed."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from toylog import packed, random_histories

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Attribute, Catalog
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.view import Seen, Targets, View
from seqrec_cli.evaluation.baselines import counted
from seqrec_cli.evaluation.rollouts.continuations import Continuations, Growing, continuations
from seqrec_cli.evaluation.rollouts.decoding import Decoding, draw
from seqrec_cli.evaluation.rollouts.measure import Given, Rollouts, roll_out, summary
from seqrec_cli.models.contract import Recommender
from seqrec_cli.training.precision import Precision

CPU = Precision(torch.device("cpu"), "fp32")
GREEDY = Decoding("greedy", 1.0, 1.0, 1)


def held_out(histories: list[list[int]], num_items: int, k: int, seen: Seen = "keep", times: bool = True) -> PackedLog:
    """The last k events of everybody test, the k before them validate."""
    log = packed(histories, num_items, times=times)
    ends_U, rows_R = log.offsets_U1[1:], np.arange(len(histories))
    val, test = (Targets.next_events(rows_R, ends_U - back) for back in (2 * k, k))
    return replace(log, view=View(ends_U - 2 * k, val, test, seen=seen))


def given(
    log: PackedLog, how: Decoding, steps: int, *, max_length: int = 50, seed: int = 0, memory_mb: int = 64
) -> Given:
    asked = continuations(log, "test", steps=steps, users=None)
    return Given(log, asked, how, cutoff=2, max_length=max_length, memory_mb=memory_mb, seed=seed, truth=True)


def cycles(items: int, length: int, users: int = 12) -> list[list[int]]:
    return [[(start + nth) % items + 1 for nth in range(length)] for start in range(users)]


@pytest.mark.parametrize(("seen", "items", "times"), [("keep", 7, True), ("remove", 40, True), ("keep", 7, False)])
def test_markov_goes_round_a_cycle(seen: Seen, items: int, times: bool) -> None:
    """Seen items may come again where they are kept; removed, the cycle must be longer than the history."""
    log = held_out(cycles(items, 30, 40), items, k=5, seen=seen, times=times)
    found = roll_out(counted("markov", log, 50), given(log, GREEDY, 5), CPU)
    assert (found.items_Rn == found.asked.targets_Rn).all()
    means = summary(found, log, 2)
    assert means["overlap"]["rollout"] == 1.0  # type: ignore[index]
    assert means["by_step"]["hit"]["rollout"] == [1.0] * 5  # type: ignore[index]
    assert means["by_step"]["found@2"]["given_truth"] == [1.0] * 5  # type: ignore[index]
    assert means["by_step"]["hit"]["plain"][0] == 1.0  # type: ignore[index]


class Scripted(Recommender):
    """Chances of the next item by the last one: greedy takes 1 and then .34, the likeliest pair begins with 2."""

    CHANCES: ClassVar = {5: {1: 0.6, 2: 0.4}, 1: {3: 0.34, 4: 0.33, 5: 0.33}, 2: {4: 0.9, 3: 0.1}}

    def score_corpus(self, batch: Batch) -> Tensor:
        last_B = batch.items_BL.gather(1, batch.lengths_B[:, None] - 1)[:, 0].tolist()
        chances_BV = torch.full((len(last_B), self.num_items + 1), 1e-9)
        for row, last in enumerate(last_B):
            for item, chance in self.CHANCES.get(last, {3: 1.0}).items():
                chances_BV[row, item] = chance
        return chances_BV.log()


def scripted() -> tuple[PackedLog, Scripted]:
    log = held_out([[3, 4, 5, 2, 4], [4, 3, 5, 1, 3]], 5, k=2)
    return log, Scripted(log.catalog)


@pytest.mark.parametrize(("width", "expected"), [(1, [1, 3]), (2, [2, 4]), (3, [2, 4]), (9, [2, 4])])
def test_a_beam_finds_the_likelier_pair_that_greedy_misses(width: int, expected: list[int]) -> None:
    """.6 x .34 = .204 for greedy; .4 x .9 = .36."""
    log, model = scripted()
    found = roll_out(model, given(log, Decoding("beam", 1.0, 1.0, width), 2), CPU)
    assert found.items_Rn.tolist() == [expected, expected]
    assert roll_out(model, given(log, GREEDY, 2), CPU).items_Rn.tolist() == [[1, 3], [1, 3]]


def test_a_beam_of_one_is_greedy_and_a_wider_one_is_never_less_likely() -> None:
    log = held_out([h for h in random_histories(60, 25, 14, seed=3) if len(h) > 8], 25, k=3, seen="remove")
    model = counted("markov", log, 50)
    greedy = roll_out(model, given(log, GREEDY, 3), CPU)
    one = roll_out(model, given(log, Decoding("beam", 1.0, 1.0, 1), 3), CPU)
    assert (one.items_Rn == greedy.items_Rn).all()
    assert all((one.found_Rn[kind] == greedy.found_Rn[kind]).all() for kind in greedy.found_Rn)
    wide = roll_out(model, given(log, Decoding("beam", 1.0, 1.0, 4), 3), CPU)
    assert (_log_chances(model, log, wide) >= _log_chances(model, log, greedy) - 1e-6).mean() > 0.9
    assert (wide.items_Rn != greedy.items_Rn).any()
    for row in wide.items_Rn:
        assert len(set(row.tolist())) == 3  # an item said has been seen


def _log_chances(model: Recommender, log: PackedLog, found: Rollouts) -> np.ndarray:
    """Of each sequence, worked out event by event."""
    total_R = np.zeros(len(found.items_Rn))
    for row, (user, end) in enumerate(zip(found.asked.rows_R, found.asked.ends_R, strict=True)):
        history = log.items_N[log.offsets_U1[user] : end].tolist()
        for item in found.items_Rn[row].tolist():
            batch = Batch(torch.tensor([1]), torch.tensor([history]), torch.tensor([len(history)]))
            scores_V = model.score_corpus(batch)[0].double().clone()
            scores_V[[0, *history]] = -torch.inf
            total_R[row] += float(torch.log_softmax(scores_V, 0)[item])
            history.append(item)
    return total_R


def test_draws_depend_on_the_seed_alone_and_not_on_blocks() -> None:
    log = held_out([h for h in random_histories(60, 25, 14) if len(h) > 8], 25, k=3, seen="remove")
    model, how = counted("markov", log, 50), Decoding("sample", 1.0, 1.0, 1)
    first = roll_out(model, given(log, how, 3, seed=5), CPU).items_Rn
    assert (roll_out(model, given(log, how, 3, seed=5), CPU).items_Rn == first).all()
    assert (roll_out(model, given(log, how, 3, seed=6), CPU).items_Rn != first).any()
    few = replace(given(log, how, 3, seed=5), memory_mb=1)
    import seqrec_cli.evaluation.rollouts.measure as measure

    bytes_before, measure.BYTES_A_SCORE = measure.BYTES_A_SCORE, 10_000  # blocks of a few rows
    try:
        assert (roll_out(model, few, CPU).items_Rn == first).all()
    finally:
        measure.BYTES_A_SCORE = bytes_before


def test_draws_follow_their_chances_within_the_nucleus() -> None:
    scores_BV = torch.tensor([[0.0, 0.5, 0.3, 0.15, 0.05]]).log().expand(2000, -1)
    uniform_B = (torch.arange(2000) + 0.5) / 2000
    for top_p, temperature, expected in (
        (1.0, 1.0, [0.5, 0.3, 0.15, 0.05]),
        (0.8, 1.0, [0.625, 0.375, 0, 0]),  # the two likeliest have .8
        (0.81, 1.0, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
        (0.01, 1.0, [1, 0, 0, 0]),
        (1.0, 0.5, [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]),
    ):
        drawn = draw(scores_BV, Decoding("sample", temperature, top_p, 1), uniform_B)
        shares = torch.bincount(drawn, minlength=5).double() / 2000
        assert shares.tolist() == pytest.approx([0, *expected], abs=2e-3)


def test_a_tiny_temperature_is_greedy() -> None:
    log, model = scripted()
    found = roll_out(model, given(log, Decoding("sample", 1e-3, 1.0, 1), 2), CPU)
    assert found.items_Rn.tolist() == [[1, 3], [1, 3]]


def test_added_events_are_a_median_gap_apart_and_the_window_moves_on() -> None:
    log = held_out([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]], 6, k=2)
    log = replace(log, times_N=np.array([0, 10, 40, 50, 90, 99, 0, 7, 14, 90, 95, 99], np.int64))
    asked = continuations(log, "test", steps=2, users=None)
    histories = Growing.of(log, asked, max_length=3, steps=2, device=torch.device("cpu"))
    first = histories.batch(3)
    assert first.items_BL.tolist() == [[2, 3, 4], [5, 4, 3]]
    assert first.request_times_B is not None
    assert first.request_times_B.tolist() == [50 + 30, 90 + 76]  # the upper median of gaps 10, 30 and of 7, 76
    histories.append(torch.tensor([6, 1]))
    second = histories.batch(3)
    assert second.items_BL.tolist() == [[3, 4, 6], [4, 3, 1]]
    assert second.times_BL is not None
    assert second.times_BL.tolist() == [[40, 50, 80], [14, 90, 166]]
    both = histories.picked(torch.tensor([1, 1, 0])).batch(2)
    assert both.items_BL.tolist() == [[3, 1], [3, 1], [4, 6]]
    assert both.users_B.tolist() == [2, 2, 1]


def test_repeated_targets_are_left_out_where_seen_items_are() -> None:
    histories = [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 2, 6], [1, 2, 3, 4, 6, 6]]
    removed = continuations(held_out(histories, 6, k=2, seen="remove"), "test", steps=2, users=None)
    assert removed.targets_Rn.tolist() == [[5, 6], [0, 6], [6, 0]]
    kept = continuations(held_out(histories, 6, k=2), "test", steps=2, users=None)
    assert kept.targets_Rn.tolist() == [[5, 6], [2, 6], [6, 6]]
    validation = continuations(held_out(histories, 6, k=2), "val", steps=2, users=None)
    assert validation.targets_Rn.tolist() == [[3, 4], [3, 4], [3, 4]]


def test_too_many_steps_are_refused_with_the_protocol_that_allows_them() -> None:
    with pytest.raises(SeqrecError, match=r"at most 2\); train under protocol=last_k protocol.k=3"):
        continuations(held_out([[1, 2, 3, 4, 5, 6]], 6, k=2), "test", steps=3, users=None)
    with pytest.raises(SeqrecError, match=r"at most 1\); train under protocol=last_k protocol.k=2"):
        continuations(packed([[1, 2, 3, 4, 5, 6]], 6), "test", steps=2, users=None)


def test_the_summary_is_what_a_person_counts() -> None:
    """Two users, three steps; item 1 is trained on thrice, 2 and 3 once, 4 to 6 never."""
    log = held_out([[1, 2, 4, 5, 6, 4, 5, 6, 3], [1, 3, 1, 2, 3, 6, 1, 2, 3]], 6, k=3)
    log = replace(
        log,
        view=replace(log.view, train_U=np.array([2, 12])),  # type: ignore[type-var]
        catalog=Catalog(2, 6, (Attribute("kind", 3, 1),), (), {"kind": np.array([[0], [1], [1], [1], [2], [2], [0]])}),
    )
    asked = Continuations(np.array([0, 1]), np.array([5, 14]), np.array([[4, 5, 0], [6, 1, 2]]))
    found = Rollouts(asked, np.array([[4, 6, 5], [1, 2, 3]]), np.array([[5, 1, 2], [6, 1, 3]]))
    found.found_Rn["rollout"] = np.array([[1, 0, 0], [0, 1, 1]])
    means = summary(found, log, 10)
    steps = means["by_step"]
    assert isinstance(steps, dict)
    assert steps["hit"] == {"rollout": [0.5, 0, 0], "plain": [0.5, 0.5, 0]}
    assert steps["in_set"] == {"rollout": [1, 0.5, 0.5], "plain": [1, 0.5, 0]}
    assert steps["found@10"] == {"rollout": [0.5, 0.5, 1]}  # one target at the last step
    assert means["overlap"] == {"rollout": (1 + 2 / 3) / 2, "plain": (1 / 2 + 2 / 3) / 2}
    assert means["targets"] == 5
    # training counts 3, 1, 1, 0, 0, 0: percentiles 11/12, 8/12, 8/12, 3/12, 3/12, 3/12
    assert steps["popularity"]["rollout"] == pytest.approx([(3 + 11) / 24, (3 + 8) / 24, (3 + 8) / 24])
    assert steps["different_items"]["plain"] == [1, 0.5, 1]
    # kinds of the rollout: 2, none, 2 and 1, 1, 1; each step's pairs with those before
    assert means["pairs_alike"] == {"kind": {"rollout": [0.5, 3 / 4], "plain": [0, 0.5], "truth": [0.5, 0.25]}}
