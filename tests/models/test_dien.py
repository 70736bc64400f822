"""DIEN: the evolutions, the auxiliary loss, and all positions in one forward."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import toy
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.dien import Model
from tests.gru_by_hand import gru_by_hand, sigmoid


def dien(**changes: object) -> Model:
    """A small one whose weights are large enough for differences to show."""
    model = toy.toy_model("dien", init_std=0.5, **changes)
    assert isinstance(model, Model)
    return model.eval()


def numpy_of(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def interest_by_hand(model: Model, batch: Batch, row: int, item: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The final state [H] and the attention [L] of one row and candidate, event by event."""
    x_LF = numpy_of(model.items.joined(batch.items_BL[row, :length]))
    c_F = numpy_of(model.items.joined(torch.tensor(item)))
    first, second = ([numpy_of(p) for p in gru.parameters()] for gru in (model.extractor, model.evolution))
    h_LH = gru_by_hand(x_LF @ first[0].T + first[1], np.ones(length), first[2], False)
    raw_L = h_LH @ (numpy_of(model.attention_keys.weight).T @ c_F)
    a_L = np.exp(raw_L - raw_L.max()) / np.exp(raw_L - raw_L.max()).sum()
    if model.cfg.evolution == "aigru":
        return gru_by_hand((a_L[:, None] * h_LH) @ second[0].T + second[1], np.ones(length), second[2], False)[-1], a_L
    return gru_by_hand(h_LH @ second[0].T + second[1], a_L, second[2], model.cfg.evolution == "agru")[-1], a_L


@pytest.mark.parametrize("hidden", [None, 10])
@pytest.mark.parametrize("evolution", ["augru", "agru", "aigru"])
def test_the_evolutions_are_those_of_the_paper(evolution: str, hidden: int | None) -> None:
    model, batch = dien(evolution=evolution, hidden=hidden), toy.toy_batch()
    history = model._history(batch, batch.mask_BL[..., None])
    candidates = model.items.joined(torch.tensor([3, 17]))
    got, weights = model.interest(history, candidates), model.event_weights(history, candidates)
    for row, length in enumerate(batch.lengths_B.tolist()):
        for place, item in enumerate((3, 17)):
            state_H, a_L = interest_by_hand(model, batch, row, item, length)
            np.testing.assert_allclose(numpy_of(got[row, place]), state_H, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(numpy_of(weights[row, :length, place]), a_L, rtol=1e-3, atol=1e-5)
            assert not weights[row, length:, place].any()


def test_pooled_adds_the_mean_and_its_product_with_the_candidate() -> None:
    model, batch = dien(pooled=True), toy.toy_batch()
    candidates = model.items.joined(torch.tensor([3, 17]))
    got = model.interest(model._history(batch, batch.mask_BL[..., None]), candidates)
    means = torch.stack(
        [model.items.joined(batch.items_BL[b, :n]).mean(0) for b, n in enumerate(batch.lengths_B.tolist())]
    )
    product, mean = got[..., model.hidden :].chunk(2, dim=-1)
    torch.testing.assert_close(mean, means[:, None].expand_as(mean))
    torch.testing.assert_close(product, means[:, None] * candidates)


@pytest.mark.parametrize("hidden", [None, 10])
def test_the_auxiliary_loss_tells_the_next_event_from_a_sampled_one(hidden: int | None) -> None:
    model, batch = dien(auxiliary=0.7, hidden=hidden).train(), toy.toy_batch()
    sampled = torch.randint(1, toy.ITEMS + 1, (*batch.items_BL.shape, 1), generator=torch.Generator().manual_seed(5))
    batch = dataclasses.replace(batch, negatives_BLK=sampled)
    assert batch.candidates_BC is not None
    model.score(batch, batch.candidates_BC)
    got = model.auxiliary_loss()
    losses = []
    for row, length in enumerate(batch.lengths_B.tolist()):
        x_LF = numpy_of(model.items.joined(batch.items_BL[row, :length]))
        weight, bias, recurrent = (numpy_of(p) for p in model.extractor.parameters())
        h_LH = gru_by_hand(x_LF @ weight.T + bias, np.ones(length), recurrent, False)
        project = np.eye(x_LF.shape[1]) if hidden is None else numpy_of(model.to_hidden.weight)  # type: ignore[arg-type]
        for t in range(length - 1):
            clicked = h_LH[t] @ project @ x_LF[t + 1]
            other = h_LH[t] @ project @ numpy_of(model.items.joined(sampled[row, t + 1, 0]))
            losses.append(-math.log(sigmoid(clicked)) - math.log(1 - sigmoid(other)))
    assert got is not None
    assert got.item() == pytest.approx(0.7 * float(np.mean(losses)), rel=1e-4)
    got.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.extractor.parameters())


def test_no_auxiliary_loss_where_it_is_off_or_in_evaluation() -> None:
    batch = dataclasses.replace(toy.toy_batch(), negatives_BLK=torch.ones(8, 10, 1, dtype=torch.int64))
    for model in (dien(auxiliary=0.0).train(), dien(auxiliary=1.0)):
        model.score_corpus(batch)
        assert model.auxiliary_loss() is None
    assert toy.small_config("dien", auxiliary=0.0).history_negatives == 0
    assert toy.small_config("dien", auxiliary=0.5).history_negatives == 1
    assert toy.small_config("din").history_negatives == 0


@pytest.mark.parametrize("evolution", ["augru", "agru", "aigru"])
def test_all_positions_at_once_equal_a_row_a_prefix(evolution: str) -> None:
    model, batch = dien(evolution=evolution, pooled=True), toy.padded(toy.toy_batch(), 2)
    generator = torch.Generator().manual_seed(4)
    items = torch.randint(1, toy.ITEMS + 1, (len(batch), 4), generator=generator)
    ends = 1 + (torch.rand(len(batch), 4, generator=generator) * batch.lengths_B[:, None]).long()
    got = model.score_positions(batch, items, ends)
    for b in range(len(batch)):
        for c in range(4):
            history = batch.items_BL[b, : int(ends[b, c])][None]
            prefix = Batch(batch.users_B[b : b + 1], history, torch.tensor([history.shape[1]]))
            expected = model.score(prefix, items[b : b + 1, c : c + 1])[0, 0]
            torch.testing.assert_close(got[b, c], expected, rtol=1e-4, atol=1e-5)


def test_a_row_longer_than_the_window_is_refused() -> None:
    model, batch = dien(max_length=4), toy.toy_batch()
    ends = torch.ones(len(batch), 1, dtype=torch.int64)
    with pytest.raises(SeqrecError, match=r"exceeds model\.max_length=4"):
        model.score_positions(batch, ends, ends)
