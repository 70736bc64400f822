"""Prices of owners: what is due, what is shown, and lists that are bought nearer to it within a bound."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toylog import packed

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.owners import Owners
from seqrec_cli.evaluation.owner_exposure import Kept, Prices, Shown, discounts, distance, gini

LOG = packed([[1, 2, 3, 4], [2, 5, 6], [1, 3, 5, 6, 2, 4]], 6)  # training events: 2, 1 and 4
OWNED = replace(LOG, owners_V1=np.array([0, 3, 1, 0, 3, 1, 0], np.int32))


def test_an_owner_is_due_its_part_of_the_owners_training_events() -> None:
    owners = Owners.of(OWNED)
    assert owners.users_O.tolist() == [1, 3]
    assert owners.of_items_V1.tolist() == [0, 2, 1, 0, 2, 1, 0]
    assert owners.target_O.tolist() == pytest.approx([2 / 6, 4 / 6])
    every = Owners.of(replace(LOG, owners_V1=np.array([0, 2, 2, 2, 2, 2, 2], np.int32)))
    assert every.of_items_V1.tolist() == [0, 1, 1, 1, 1, 1, 1]
    with pytest.raises(SeqrecError, match="belong to nobody"):
        Owners.of(LOG)


def test_places_are_discounted_and_nobody_s_items_are_left_out() -> None:
    assert discounts(3).tolist() == pytest.approx(np.array([1, 1 / np.log2(3), 0.5]) / (1.5 + 1 / np.log2(3)))
    shown = Shown(6, 3)
    scores_BV = torch.tensor([[9.0, 1, 2, 3, 4, 5, 6], [9.0, 6, 5, 4, 3, 2, 1]])
    none = np.zeros(0, np.int64)
    shown.add(scores_BV, torch.tensor([6, 8]), rows_B=none, ends_B=none)  # without item 6 of one, item 1 of the other
    first, second, third = discounts(3)  # lists 5 4 3 and 2 3 4
    expected = [0, 0, first, second + third, second + third, first, 0]
    assert shown.by_item_V1.tolist() == pytest.approx(expected)
    owned = np.array([first + first, second + third])  # 2 and 5 of owner 1; 4 of owner 3
    assert Owners.of(OWNED).shares(shown.by_item_V1).tolist() == pytest.approx((owned / owned.sum()).tolist())


def test_distance_and_gini_by_hand() -> None:
    assert distance(np.array([0.5, 0.5, 0.0]), np.array([0.2, 0.3, 0.5])) == pytest.approx(0.5)
    assert gini(np.array([0.0, 0.0, 0.0, 1.0])) == pytest.approx(0.75)
    assert gini(np.full(4, 0.25)) == pytest.approx(0)


def market(seed: int = 0) -> tuple[torch.Tensor, Owners]:
    """Scores of 60 lists over 40 items of 8 owners, the first ones' much higher; due is the same to all."""
    generator = torch.Generator().manual_seed(seed)
    of_items_V1 = np.concatenate([[0], np.arange(40) % 8 + 1])
    scores_RV = torch.randn(60, 41, generator=generator) - torch.from_numpy(of_items_V1) / 4
    scores_RV[:, 0] = -torch.inf
    scores_RV[0, 5] = -torch.inf
    return scores_RV, Owners(of_items_V1, np.arange(1, 9), np.full(8, 1 / 8))


def test_more_strength_buys_less_distance_for_more_score() -> None:
    scores_RV, owners = market()
    learned = Prices(scores_RV, owners, 5)
    found = []
    for strength in (0.0, 0.1, 0.5, 3.0):
        price_O = learned.learn(strength, 60)
        assert np.abs(price_O).max() <= strength * learned.unit + 1e-12
        relevance, shares_O = learned.lists(price_O)
        found.append((relevance, distance(shares_O, owners.target_O)))
    relevances, distances = zip(*found, strict=True)
    assert not learned.learn(0.0, 60).any()
    assert list(relevances) == sorted(relevances, reverse=True)
    assert list(distances) == sorted(distances, reverse=True)
    assert distances[0] > 0.3
    assert distances[3] < 0.05


def test_prices_are_at_least_as_good_as_none_by_what_they_are_for() -> None:
    scores_RV, owners = market(1)
    learned = Prices(scores_RV, owners, 5)
    values = []
    for price_O in (np.zeros(8), learned.learn(0.3, 40)):
        relevance, shares_O = learned.lists(price_O)
        values.append(relevance - 0.3 * learned.unit * np.abs(shares_O - owners.target_O).sum())
    assert values[1] > values[0]


def test_of_all_rounds_prices_the_best_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    scores_RV, owners = market(2)
    learned, asked = Prices(scores_RV, owners, 5), list[np.ndarray]()
    lists = learned.lists
    monkeypatch.setattr(learned, "lists", lambda price_O: (asked.append(price_O), lists(price_O))[1])

    def value(price_O: np.ndarray) -> float:
        relevance, shares_O = lists(price_O)
        return relevance - 0.3 * learned.unit * float(np.abs(shares_O - owners.target_O).sum())

    found_O = learned.learn(0.3, 15)
    values = [value(price_O) for price_O in asked]
    assert len(values) == 15
    assert value(found_O) == max(values) > values[-1]


def test_scores_that_are_too_many_are_refused() -> None:
    kept, none = Kept(60), np.zeros(0, np.int64)
    kept.add(torch.zeros(2, 7), torch.tensor([3]), rows_B=none, ends_B=none)
    assert kept.scores_RV[0].tolist() == [-np.inf, 0, 0, -np.inf, 0, 0, 0]
    with pytest.raises(SeqrecError, match="give users=N"):
        kept.add(torch.zeros(2, 7), torch.tensor([3]), rows_B=none, ends_B=none)
