"""DIN's other scores, pair by pair in numpy, and DIN by them."""

import numpy as np
import pytest
import torch
import toy
from pydantic import ValidationError
from torch import Tensor

from seqrec_cli.data.batch import Batch
from seqrec_cli.models.din import Model

SCORES = ["dot", "scaled_dot", "additive"]


def din(score: str, **changes: object) -> Model:
    """A small one whose weights are large enough for differences to show."""
    changes = ({"unit": [7]} if score == "additive" else {}) | changes
    model = toy.toy_model("din", init_std=0.5, score=score, **changes)
    assert isinstance(model, Model)
    if score == "additive":
        with torch.no_grad():
            model.unit.query.bias.normal_(generator=torch.Generator().manual_seed(3))  # type: ignore[union-attr]
    return model.eval()


def numpy_of(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def raw_by_hand(model: Model, score: str, events_LF: np.ndarray, candidate_F: np.ndarray) -> np.ndarray:
    if score == "additive":
        weight = {name: numpy_of(p) for name, p in model.unit.named_parameters()}
        from_candidate = weight["query.weight"] @ candidate_F + weight["query.bias"]
        return np.array(
            [weight["weight.weight"][0] @ np.tanh(from_candidate + weight["key.weight"] @ event) for event in events_LF]
        )
    products = np.array([float(np.dot(candidate_F, event)) for event in events_LF])
    return products / np.sqrt(len(candidate_F)) if score == "scaled_dot" else products


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("score", SCORES)
def test_weights_and_interests_are_those_of_the_formula(score: str, softmax: bool) -> None:
    model, batch = din(score, softmax=softmax), toy.toy_batch()
    items = torch.tensor([3, 17])
    history, candidates = model._history(batch, batch.mask_BL[..., None]), model.items.joined(items)
    interests, weights = model.interest(history, candidates), model.attention(batch, items.expand(len(batch), -1))
    assert weights is not None
    for row, length in enumerate(batch.lengths_B.tolist()):
        events_LF = numpy_of(model.items.joined(batch.items_BL[row, :length]))
        for nth, item in enumerate(items.tolist()):
            raw_L = raw_by_hand(model, score, events_LF, numpy_of(model.items.joined(torch.tensor(item))))
            expected_L = np.exp(raw_L) / np.exp(raw_L).sum() if softmax else raw_L
            np.testing.assert_allclose(numpy_of(weights[row, :length, nth]), expected_L, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(numpy_of(interests[row, nth]), expected_L @ events_LF, rtol=1e-3, atol=1e-4)
        assert not weights[row, length:].any()


def test_a_scaled_product_is_a_product_over_the_root_of_the_width() -> None:
    plain, scaled, batch = din("dot"), din("scaled_dot"), toy.toy_batch()
    items = torch.tensor([[5]]).expand(len(batch), -1)
    torch.testing.assert_close(plain.attention(batch, items), scaled.attention(batch, items) * plain.items.width**0.5)


@pytest.mark.parametrize("changes", [{}, {"softmax": True}, {"search_attribute": "genre", "search_events": 3}])
@pytest.mark.parametrize("score", SCORES)
def test_all_positions_at_once_equal_a_row_a_prefix_and_all_items_equal_some(
    score: str, changes: dict[str, object]
) -> None:
    model, batch = din(score, **changes), toy.padded(toy.toy_batch(), 2)
    generator = torch.Generator().manual_seed(4)
    items = torch.randint(1, toy.ITEMS + 1, (len(batch), 3), generator=generator)
    ends = 1 + (torch.rand(len(batch), 3, generator=generator) * batch.lengths_B[:, None]).long()
    got = model.score_positions(batch, items, ends)
    for b in range(len(batch)):
        for c in range(3):
            history = batch.items_BL[b, : int(ends[b, c])][None]
            prefix = Batch(batch.users_B[b : b + 1], history, torch.tensor([history.shape[1]]))
            expected = model.score(prefix, items[b : b + 1, c : c + 1])[0, 0]
            torch.testing.assert_close(got[b, c], expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(model.score_corpus(batch).gather(1, items), model.score(batch, items))


@pytest.mark.parametrize("score", SCORES)
def test_each_score_learns(score: str) -> None:
    course = list(toy.losses(din(score), steps=60, lr=0.01))
    assert course[-1] < 0.6 * course[0]
    model = din(score).train()
    toy.toy_loss(model, toy.toy_batch()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_additive_layer_has_one_width() -> None:
    with pytest.raises(ValidationError, match=r"model\.score=additive has one layer"):
        toy.small_config("din", score="additive", unit=[8, 4])
