"""Top lists: ties, what is no candidate, counting block by block, and what chance gives."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from seqrec_cli.data.splits import held_out, train_ends
from seqrec_cli.data.view import View
from seqrec_cli.evaluation.ranks import seen_positions
from seqrec_cli.evaluation.top_lists import TopLists, lists_at_random, not_measured, top_items, training_of
from tests.toylog import packed, random_histories

ALWAYS = ("coverage", "novelty", "average_popularity", "head_share")  # known for a random scorer


def test_best_items_first_and_equal_scores_by_index():
    inf = torch.inf
    scores_BV = torch.tensor(
        [
            [-inf, 1.0, 3.0, 2.0, 3.0, 0.0],
            [-inf, 1.0, 1.0, 1.0, 1.0, 1.0],  # a constant scorer
            [-inf, -inf, 5.0, -inf, -inf, 4.0],  # two candidates alone
            [-inf, 0.0, 2.0, 0.0, 2.0, 0.0],
        ]
    )
    assert top_items(scores_BV, 3).tolist() == [[2, 4, 3], [1, 2, 3], [2, 5, 0], [2, 4, 1]]
    assert top_items(scores_BV, 50).tolist()[0] == [2, 4, 3, 1, 5]


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_lists_are_those_of_a_stable_sort(levels):
    scores_BV = torch.randint(levels, (40, 60), generator=torch.Generator().manual_seed(levels)).double()
    scores_BV[:, 0] = -torch.inf
    expected_BK = scores_BV.sort(dim=1, descending=True, stable=True).indices[:, :7]
    assert torch.equal(top_items(scores_BV, 7), expected_BK)


def lists_of(log, scores_RV: np.ndarray, *, block: int, cutoffs: tuple[int, ...] = (1, 3, 10)) -> TopLists:
    """The lists of a split's requests, handed over in blocks."""
    targets, lists = held_out(log, "test"), TopLists(log, cutoffs)
    for first in range(0, len(targets.rows_R), block):
        rows_B, ends_B = targets.rows_R[first : first + block], targets.ends_R[first : first + block]
        scores_BV = torch.from_numpy(scores_RV[first : first + block].copy())
        before_BV = scores_BV.clone()
        lists.add(scores_BV, torch.from_numpy(seen_positions(log, rows_B, ends_B)), rows_B=rows_B, ends_B=ends_B)
        assert torch.equal(scores_BV, before_BV)
    return lists


@pytest.fixture(scope="module")
def log():
    return replace(packed(random_histories(50, 30, 20), 30), owners_V1=np.arange(31, dtype=np.int32) % 40)


def test_blocks_of_any_size_give_the_same_as_all_at_once(log):
    scores_RV = np.random.default_rng(0).normal(size=(50, 31))
    whole, parts = (lists_of(log, scores_RV, block=block).metrics() for block in (50, 7))
    assert set(whole) == {
        f"{kind}@{k}"
        for kind in (*ALWAYS, "gini", "diversity:color", "calibration:color", "owner_correlation", "owner_imbalance")
        for k in (1, 3, 10)
    } - {"diversity:color@1"}  # a list of one item has no pair
    assert parts == pytest.approx(whole, abs=1e-12)


def test_seen_items_are_not_recommended_and_lists_are_counted(log):
    """The counts of a slow loop over every request's candidates."""
    scores_RV = np.random.default_rng(1).normal(size=(50, 31))
    metrics = lists_of(log, scores_RV, block=8).metrics()
    targets, counts_V1 = held_out(log, "test"), np.zeros(31)
    for row, end, scores_V in zip(targets.rows_R, targets.ends_R, scores_RV, strict=True):
        seen = set(log.items_N[log.offsets_U1[row] : end].tolist())
        best = sorted(set(range(1, 31)) - seen, key=lambda item: -scores_V[item])[:3]
        counts_V1[best] += 1
    events_V1 = np.zeros(31)
    for row, end in enumerate(train_ends(log)):
        np.add.at(events_V1, log.items_N[log.offsets_U1[row] : end], 1)
    assert metrics["coverage@3"] == pytest.approx((counts_V1[1:] > 0).mean())
    assert metrics["average_popularity@3"] == pytest.approx(counts_V1 @ events_V1 / counts_V1.sum())


def test_training_counts_leave_out_what_is_held_out():
    log = packed([[1, 2, 2, 3, 4], [2, 1]], 4)
    training = training_of(log)
    assert training.events_V1.tolist() == [0, 2, 3, 0, 0]
    assert training.users_V1.tolist() == [0, 2, 2, 0, 0]
    assert training.interactions_U1.tolist() == [0, 3, 2]


@pytest.mark.parametrize("seen", ["remove", "keep"])
def test_chance_is_the_mean_of_random_scorers(log, seen):
    targets = held_out(log, "test")
    view = View(train_ends(log), held_out(log, "val"), targets, seen=seen)
    log = replace(log, view=view)
    lengths_R = targets.ends_R - log.offsets_U1[targets.rows_R]  # histories of distinct items
    candidates_R = 30 - lengths_R if seen == "remove" else np.full(len(lengths_R), 30)
    ranks = SimpleNamespace(rows_R=targets.rows_R, ends_R=targets.ends_R, candidates_R=candidates_R)
    expected = lists_at_random(log, (1, 3), ranks)
    assert set(expected) == {f"{kind}@{k}" for kind in ALWAYS for k in (1, 3)}
    rng, found = np.random.default_rng(2), []
    for _ in range(60):
        lists = TopLists(log, (1, 3))
        places = seen_positions(log, targets.rows_R, targets.ends_R) if seen == "remove" else np.zeros(0, np.int64)
        scores_RV = torch.from_numpy(rng.normal(size=(50, 31)))
        lists.add(scores_RV, torch.from_numpy(places), rows_B=targets.rows_R, ends_B=targets.ends_R)
        found.append(lists.metrics())
    for name, value in expected.items():
        values = np.array([metrics[name] for metrics in found])
        assert abs(values.mean() - value) < 4 * values.std() / np.sqrt(len(values)), name


def test_what_a_log_lacks_is_said():
    log = packed([[1, 2, 3]], 4)
    assert not_measured(log) == [
        "not measured: owner_correlation, owner_imbalance (needs owners of the items: dataset.owner_column)"
    ]
