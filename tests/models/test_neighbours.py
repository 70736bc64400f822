"""Item-to-item cosine and the transition graph against their equations, worked out by hand or by dense numpy."""

import numpy as np
import pytest
import torch
import toy

from seqrec_cli.data.batch import Batch
from seqrec_cli.models import itemknn
from seqrec_cli.models.neighbours import heaviest, summed

PLAIN = {"popularity": 0.0}
ALL = toy.ITEMS


def after(*history: int) -> Batch:
    return Batch(torch.tensor([1]), torch.tensor([[*history, 0, 0]]), torch.tensor([len(history)]))


def cosines_VV(shrinkage: float, counted: int) -> np.ndarray:
    met_UV = np.zeros((toy.USERS, toy.ITEMS + 1))
    for user, history in enumerate(toy.toy_histories()):
        met_UV[user, history[-counted:].numpy()] = 1
    shared_VV, counts_V = met_UV.T @ met_UV, met_UV.sum(0)
    found_VV = shared_VV / np.maximum(np.sqrt(np.outer(counts_V, counts_V)) + shrinkage, 1e-9)
    np.fill_diagonal(found_VV, 0)
    return found_VV


@pytest.mark.parametrize("counted", [50, 4])
def test_an_item_scores_by_its_likeness_to_the_history_fading_with_age(counted: int) -> None:
    changes = {"neighbours": ALL, "shrinkage": 1.5, "counted": counted, "half_life": 2.0} | PLAIN
    scores_V = toy.toy_model("itemknn", **changes).score_corpus(after(12, 30, 20))[0]
    alike_VV = cosines_VV(1.5, counted)
    expected_V = alike_VV[12] * 0.5 + alike_VV[30] * 0.5**0.5 + alike_VV[20]
    np.testing.assert_allclose(scores_V.numpy(), expected_V, atol=1e-6)


def test_pieces_of_the_catalogue_count_as_the_whole_does(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = toy.toy_model("itemknn").state_dict()
    monkeypatch.setattr(itemknn, "PAIRS_AT_ONCE", 30)
    assert len(itemknn._pieces(torch.full((41,), 20.0))) > 10
    pieces = toy.toy_model("itemknn").state_dict()
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)


def transitions_VV(window: int, decay: float, weight: float) -> np.ndarray:
    catalog = toy.toy_catalog()
    found_VV = np.zeros((toy.ITEMS + 1, toy.ITEMS + 1))
    for history in toy.toy_histories():
        items = history.tolist()
        for at, item in enumerate(items):
            for distance, later in enumerate(items[at + 1 : at + 1 + window]):
                found_VV[item, later] += decay**distance
    values = [
        {(name, v) for name, rows in catalog.item_values.items() for v in rows[item] if v}
        for item in range(toy.ITEMS + 1)
    ]
    for one, other in zip(*np.nonzero(found_VV), strict=True):
        size = np.sqrt(len(values[one]) * len(values[other]))
        found_VV[one, other] *= 1 + weight * len(values[one] & values[other]) / size if size else 1
    return found_VV / np.maximum(found_VV.sum(1, keepdims=True), 1e-9)


@pytest.mark.parametrize(("hops", "weight"), [(1, 0.0), (2, 0.0), (3, 0.7)])
def test_hops_over_the_graph_are_powers_of_its_normalised_matrix(hops: int, weight: float) -> None:
    changes = {"window": 2, "distance_decay": 0.5, "attribute_weight": weight, "edges": ALL, "branching": 10**4}
    changes |= {"sources": 2, "source_decay": 0.25, "hops": hops, "hop_decay": 0.1} | PLAIN
    scores_V = toy.toy_model("graph", **changes).score_corpus(after(9, 30, 20))[0]
    step_VV = transitions_VV(2, 0.5, weight)
    start_V = np.zeros(toy.ITEMS + 1)
    start_V[[20, 30]] = 1, 0.25
    expected_V = sum(0.1 ** (hop - 1) * start_V @ np.linalg.matrix_power(step_VV, hop) for hop in range(1, hops + 1))
    np.testing.assert_allclose(scores_V.numpy(), expected_V, atol=1e-6)
    assert expected_V.max() > 0


def test_what_nothing_speaks_for_is_ordered_by_popularity() -> None:
    for name in ("graph", "itemknn", "latest"):
        scores_V = toy.toy_model(name).score_corpus(
            Batch(torch.tensor([0]), torch.zeros(1, 3).long(), torch.tensor([0]))
        )[0]
        counts_V = torch.bincount(torch.cat(toy.toy_histories()), minlength=toy.ITEMS + 1)
        assert scores_V[counts_V == 2].min() > scores_V[counts_V == 1].max(), name


def test_the_heaviest_of_each_row_are_kept_in_order() -> None:
    rows_E, columns_E, weights_E = summed(
        torch.tensor([2, 0, 2, 2, 2]), torch.tensor([1, 3, 3, 1, 4]), torch.tensor([0.2, 0.5, 0.3, 0.2, 0.1]), size=5
    )
    ids_RK, weights_RK = heaviest(rows_E, columns_E, weights_E, rows=4, width=2)
    assert ids_RK.tolist() == [[3, 0], [0, 0], [1, 3], [0, 0]]
    torch.testing.assert_close(weights_RK, torch.tensor([[0.5, 0], [0, 0], [0.4, 0.3], [0, 0]]))


def test_latest_first_ranks_the_history_by_when_it_was_seen_last() -> None:
    scores_V = toy.toy_model("latest").score_corpus(after(5, 7, 5, 9))[0]
    assert scores_V.argsort(descending=True)[:3].tolist() == [9, 5, 7]
