"""Maximal marginal relevance against the paper's equation in a slow loop."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.catalog import Attribute
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.serving.diversity import Cosine, Jaccard, Likeness, likeness, most_relevant_and_new
from seqrec_cli.serving.recommending import Recommending
from tests.serving.test_recommending import CPU, WINDOW, Clock, Encoder

SETS = {1: {"a1", "b1"}, 2: {"a1"}, 3: {"b2"}, 4: set(), 5: {"a2", "b1"}}


@pytest.fixture
def attributed(saved_log: PackedLog) -> PackedLog:
    """Items 1 to 5 have values of `a` (one) and `b` (one of two places), all others none."""
    a, b = np.zeros((26, 1), np.int32), np.zeros((26, 2), np.int32)
    a[[1, 2, 5], 0], b[[1, 3, 5], 1] = [1, 1, 2], [1, 2, 1]
    catalog = replace(
        saved_log.catalog,
        item_attributes=(Attribute("a", 3, 1), Attribute("b", 3, 2)),
        item_values={"a": a, "b": b},
    )
    texts = {"item_attribute_values": {"a": ["a1", "a2"], "b": ["b1", "b2"]}}
    return replace(saved_log, catalog=catalog, manifest={**saved_log.manifest, **texts})


def of(log: PackedLog, model: Any = Encoder) -> Recommending:
    made = model(log) if model is Encoder else model(log.catalog)
    return Recommending(made, log, name="mine", max_length=WINDOW, precision=CPU)


def slowly(items: list[int], scores: list[float], top: int, *, weight: float, like: Any) -> list[int]:
    """Places, by the equation as it stands."""
    low, high = min(scores), max(scores)
    left, chosen = list(range(len(items))), list[int]()
    while left and len(chosen) < top:

        def value(place: int) -> float:
            relevance = (scores[place] - low) / (high - low)
            if not chosen:
                return relevance
            return weight * relevance - (1 - weight) * max(like(items[place], items[other]) for other in chosen)

        best = max(left, key=value)
        left.remove(best)
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.7, 1.0])
def test_the_order_is_the_paper_s(saved_log: PackedLog, weight: float) -> None:
    recommending = of(saved_log)
    table = recommending.model.items.weight.detach()  # type: ignore[union-attr]
    rng = np.random.default_rng(3)
    items_RN = np.stack([rng.permutation(np.arange(1, 26))[:12] for _ in range(7)])
    scores_RN = -np.sort(-rng.normal(size=(7, 12)).astype(np.float32), axis=1)

    def cosine(one: int, other: int) -> float:
        return float(torch.cosine_similarity(table[one], table[other], dim=0))

    found = most_relevant_and_new(items_RN, scores_RN, 6, weight=weight, like=Cosine(recommending))
    for items, scores, order in zip(items_RN.tolist(), scores_RN.tolist(), found.tolist(), strict=True):
        assert order == slowly(items, scores, 6, weight=weight, like=cosine)
        assert order[0] == 0  # the most relevant, whatever lambda is
    if weight == 1.0:
        assert found.tolist() == [list(range(6))] * 7
    else:
        assert found.tolist() != [list(range(6))] * 7


def test_blocks_change_nothing(saved_log: PackedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    items_RN = np.stack([rng.permutation(np.arange(1, 26))[:9] for _ in range(11)])
    scores_RN = -np.sort(-rng.random((11, 9)).astype(np.float32), axis=1)
    like = Cosine(of(saved_log))
    whole = most_relevant_and_new(items_RN, scores_RN, 4, weight=0.5, like=like)
    monkeypatch.setattr("seqrec_cli.serving.diversity.NUMBERS", 100)
    assert (most_relevant_and_new(items_RN, scores_RN, 4, weight=0.5, like=like) == whole).all()


def test_the_end_of_a_pool_is_chosen_last(saved_log: PackedLog) -> None:
    items_RN, scores_RN = np.array([[3, 9, 0, 0]]), np.array([[0.5, -7.0, 0.0, 0.0]], np.float32)
    order = most_relevant_and_new(items_RN, scores_RN, 4, weight=0.1, like=Cosine(of(saved_log)))
    assert order[0, :2].tolist() == [0, 1]
    assert sorted(order[0, 2:].tolist()) == [2, 3]


def pairs(like: Likeness) -> dict[tuple[int, int], float]:
    items = torch.arange(1, 6)
    table = like.to_one(items.expand(5, -1), items)  # row: the one
    return {(one, other): float(table[other - 1, one - 1]) for one in range(1, 6) for other in range(1, 6)}


def test_the_jaccard_index_of_attributes(attributed: PackedLog) -> None:
    found = pairs(Jaccard(of(attributed), ["a", "b"]))
    for (one, other), value in found.items():
        union = SETS[one] | SETS[other]
        assert value == pytest.approx(len(SETS[one] & SETS[other]) / len(union) if union else 0.0), (one, other)
    of_a = pairs(Jaccard(of(attributed), ["a"]))
    assert (of_a[1, 2], of_a[1, 5], of_a[3, 4], of_a[1, 3]) == (1.0, 0.0, 0.0, 0.0)


def test_how_items_are_compared(attributed: PackedLog, saved_log: PackedLog) -> None:
    encoder, ranker = of(attributed), of(attributed, Clock)
    assert isinstance(likeness(encoder, None), Cosine)
    assert pairs(likeness(encoder, "a")) == pairs(Jaccard(encoder, ["a"]))
    assert pairs(likeness(ranker, None)) == pairs(Jaccard(ranker, ["a", "b"]))
    for recommending, by, says in (
        (ranker, "vectors", "mmr_by=vectors: model=mine makes no item vectors"),
        (encoder, "c", r"mmr_by=c: items have no such attribute.* \(have: vectors, a, b\)"),
        (of(saved_log, Clock), None, "makes no item vectors, and the data have no attributes"),
    ):
        with pytest.raises(SeqrecError, match=says):
            likeness(recommending, by)
