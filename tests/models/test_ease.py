"""EASE against the paper's equation, solved by numpy, and how a history is asked."""

import numpy as np
import pytest
import torch
import toy

from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import SequenceEncoder


def ease(**changes: float) -> SequenceEncoder:
    model = toy.toy_model("ease", **({"embed_dim": toy.ITEMS, "l2": 0.7, "scale": 1.0, "half_life": 2.0} | changes))
    assert isinstance(model, SequenceEncoder)
    return model


def weights_VV() -> np.ndarray:
    """Equation 8 of the paper on the toy histories."""
    met_UV = np.zeros((toy.USERS, toy.ITEMS))
    for user, history in enumerate(toy.toy_histories()):
        met_UV[user, history.numpy() - 1] = 1
    inverse_VV = np.linalg.inv(met_UV.T @ met_UV + 0.7 * np.eye(toy.ITEMS))
    result_VV = -inverse_VV / np.diag(inverse_VV)
    np.fill_diagonal(result_VV, 0)
    return result_VV


def after(*history: int) -> Batch:
    return Batch(torch.tensor([1]), torch.tensor([[*history, 0]]), torch.tensor([len(history)]))


@pytest.mark.parametrize("item", [1, 9, 40])
def test_an_event_scores_by_the_papers_weights(item: int) -> None:
    scores_V = ease().score_corpus(after(item))[0]
    np.testing.assert_allclose(scores_V[1:].numpy(), weights_VV()[item - 1], atol=1e-5)
    assert scores_V[0] == 0


def test_the_states_of_a_long_history_are_those_of_its_beginnings() -> None:
    model, items = ease(half_life=30.0), torch.arange(150) % toy.ITEMS + 1
    states_LD = model.encode(Batch(torch.tensor([1]), items[None], torch.tensor([150])))[0]
    for length in (1, 63, 64, 65, 128, 129, 150):  # around the ends of stretches
        of_its_own = model.last(Batch(torch.tensor([1]), items[None, :length], torch.tensor([length])))[0]
        torch.testing.assert_close(states_LD[length - 1], of_its_own, rtol=1e-4, atol=1e-5)


def test_an_event_of_a_half_life_ago_counts_half() -> None:
    scores_V = ease(scale=3.0).score_corpus(after(4, 9, 12))[0]
    one, two, three = (weights_VV()[item - 1] for item in (4, 9, 12))
    np.testing.assert_allclose(scores_V[1:].numpy(), 3 * (one / 2 + two / 2**0.5 + three), atol=1e-4)


def test_the_states_on_the_way_are_those_of_shorter_histories() -> None:
    model = ease()
    states_LD = model.encode(after(4, 9, 12))[0]
    for length, history in enumerate(((4,), (4, 9), (4, 9, 12)), start=1):
        torch.testing.assert_close(states_LD[length - 1], model.last(after(*history))[0])


def test_a_repeated_event_is_counted_once() -> None:
    once, twice = ease(), ease()
    twice.fit_closed_form([torch.cat([history, history[:2]]) for history in toy.toy_histories()])
    torch.testing.assert_close(twice.score_corpus(after(4, 9)), once.score_corpus(after(4, 9)))


def test_more_eigenvectors_come_nearer_and_all_are_exact() -> None:
    errors = []
    for width in (4, 12, 30, toy.ITEMS):
        model = ease(embed_dim=width)
        assert model.item_table().shape == (toy.ITEMS + 1, width)
        near_VV = model.score_corpus(Batch(*_every_item()))[:, 1:].numpy()
        errors.append(float(np.abs(near_VV - weights_VV()).max()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-5 < errors[-2]


def _every_item() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    items_B1 = torch.arange(1, toy.ITEMS + 1)[:, None]
    return torch.ones(toy.ITEMS, dtype=torch.int64), items_B1, torch.ones(toy.ITEMS, dtype=torch.int64)


@pytest.mark.parametrize("width", [6, toy.ITEMS])
def test_products_with_the_log_find_what_the_table_of_all_pairs_does(width: int) -> None:
    exact, lines = ease(embed_dim=width), list[str]()
    found = toy.build_model(
        toy.small_config("ease", embed_dim=width, l2=0.7, scale=1.0, half_life=2.0, exact_items=0), toy.toy_catalog(), 0
    )
    found.fit_closed_form(toy.toy_histories(), lines.append)
    every = Batch(*_every_item())
    error = (found.score_corpus(every) - exact.score_corpus(every)).abs().max()
    assert error < (1e-3 if width == toy.ITEMS else 0.25)
    assert len(lines) == 9
    assert found.closed_form_bytes(100) < exact.closed_form_bytes(100) * 5
