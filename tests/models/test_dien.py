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
from seqrec_cli.kernels.gru_scan.reference import KEPT, REPLACED, SCALED
from seqrec_cli.models.dien import Model
from tests.gru_by_hand import gru_by_hand, sigmoid

EVOLUTIONS = ["augru", "augru_keep", "agru", "aigru"]


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
    h_LH = gru_by_hand(x_LF @ first[0].T + first[1], np.ones(length), first[2], SCALED)
    raw_L = h_LH @ (numpy_of(model.attention_keys.weight).T @ c_F) if bilinear(model) else by_unit(model, h_LH, c_F)
    a_L = np.exp(raw_L - raw_L.max()) / np.exp(raw_L - raw_L.max()).sum()
    if model.cfg.evolution == "aigru":
        return gru_by_hand((a_L[:, None] * h_LH) @ second[0].T + second[1], np.ones(length), second[2], SCALED)[-1], a_L
    gate = {"augru": SCALED, "augru_keep": KEPT, "agru": REPLACED}[model.cfg.evolution]
    return gru_by_hand(h_LH @ second[0].T + second[1], a_L, second[2], gate)[-1], a_L


def bilinear(model: Model) -> bool:
    return model.cfg.attention == "bilinear"


def by_unit(model: Model, h_LH: np.ndarray, c_F: np.ndarray) -> np.ndarray:
    """The authors' code: the candidate through a layer and PReLU, then an MLP with sigmoids over [h; q; h - q; h q]."""
    project, slope = model.attention_query[0], numpy_of(model.attention_query[1].slope)
    q_H = numpy_of(project.weight) @ c_F + numpy_of(project.bias)
    q_H = np.where(q_H > 0, q_H, slope * q_H)
    raw = []
    for h_H in h_LH:
        x = np.concatenate([h_H, q_H, h_H - q_H, h_H * q_H])
        for layer in (model.unit.first, *model.unit.layers):
            x = sigmoid(numpy_of(layer.weight) @ x + numpy_of(layer.bias))
        raw.append(float(numpy_of(model.unit.weight.weight)[0] @ x + numpy_of(model.unit.weight.bias)[0]))
    return np.array(raw)


@pytest.mark.parametrize(("attention", "hidden"), [("bilinear", None), ("bilinear", 10), ("unit", None), ("unit", 10)])
@pytest.mark.parametrize("evolution", EVOLUTIONS)
def test_the_evolutions_are_those_of_the_paper_and_of_the_authors_code(
    evolution: str, attention: str, hidden: int | None
) -> None:
    model, batch = dien(evolution=evolution, hidden=hidden, attention=attention, unit=[9, 5]), toy.toy_batch()
    if attention == "unit":
        with torch.no_grad():
            model.attention_query[1].slope.uniform_(0.1, 0.9)
    history = model._history(batch, batch.mask_BL[..., None])
    candidates = model.items.joined(torch.tensor([3, 17]))
    got, weights = model.interest(history, candidates), model.event_weights(history, candidates)
    for row, length in enumerate(batch.lengths_B.tolist()):
        for place, item in enumerate((3, 17)):
            state_H, a_L = interest_by_hand(model, batch, row, item, length)
            np.testing.assert_allclose(numpy_of(got[row, place]), state_H, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(numpy_of(weights[row, :length, place]), a_L, rtol=1e-3, atol=1e-5)
            assert not weights[row, length:, place].any()


def test_an_event_without_attention_moves_the_state_in_the_code_and_not_in_the_paper() -> None:
    batch = toy.toy_batch()
    for evolution, moves in (("augru", False), ("augru_keep", True)):
        model = dien(evolution=evolution)
        with torch.no_grad():  # all attention to the first event
            candidates = model.items.joined(torch.tensor([3]))
            history = model._history(batch, batch.mask_BL[..., None])
            first = torch.zeros(*batch.items_BL.shape, 1)
            first[:, 0] = 1
            model.event_weights = lambda *_, first=first: first  # type: ignore[method-assign]
            short = model._history(toy.rows(batch, slice(None)), batch.mask_BL[..., None] & (first > 0))
            whole, one = model.interest(history, candidates), model.interest(short, candidates)
        assert torch.allclose(whole, one, atol=1e-6) is not moves


@pytest.mark.parametrize("pooled", ["mean", "sum"])
def test_pooled_adds_the_mean_or_sum_and_its_product_with_the_candidate(pooled: str) -> None:
    model, batch = dien(pooled=pooled), toy.toy_batch()
    candidates = model.items.joined(torch.tensor([3, 17]))
    got = model.interest(model._history(batch, batch.mask_BL[..., None]), candidates)
    means = torch.stack(
        [getattr(model.items.joined(batch.items_BL[b, :n]), pooled)(0) for b, n in enumerate(batch.lengths_B.tolist())]
    )
    product, mean = got[..., model.hidden :].chunk(2, dim=-1)
    torch.testing.assert_close(mean, means[:, None].expand_as(mean))
    torch.testing.assert_close(product, means[:, None] * candidates)


@pytest.mark.parametrize(("hidden", "mlp"), [(None, None), (10, None), (10, [6, 4])])
def test_the_auxiliary_loss_tells_the_next_event_from_a_sampled_one(hidden: int | None, mlp: list[int] | None) -> None:
    model, batch = dien(auxiliary=0.7, hidden=hidden, auxiliary_mlp=mlp).train(), toy.toy_batch()
    sampled = torch.randint(1, toy.ITEMS + 1, (*batch.items_BL.shape, 1), generator=torch.Generator().manual_seed(5))
    batch = dataclasses.replace(batch, negatives_BLK=sampled)
    assert batch.candidates_BC is not None
    model.score(batch, batch.candidates_BC)
    got = model.auxiliary_loss()
    losses = []
    for row, length in enumerate(batch.lengths_B.tolist()):
        x_LF = numpy_of(model.items.joined(batch.items_BL[row, :length]))
        weight, bias, recurrent = (numpy_of(p) for p in model.extractor.parameters())
        h_LH = gru_by_hand(x_LF @ weight.T + bias, np.ones(length), recurrent, SCALED)
        for t in range(length - 1):
            clicked = fit_by_hand(model, h_LH[t], x_LF[t + 1])
            other = fit_by_hand(model, h_LH[t], numpy_of(model.items.joined(sampled[row, t + 1, 0])))
            losses.append(-math.log(sigmoid(clicked)) - math.log(1 - sigmoid(other)))
    assert got is not None
    assert got.item() == pytest.approx(0.7 * float(np.mean(losses)), rel=1e-4)
    got.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.extractor.parameters())


def fit_by_hand(model: Model, h_H: np.ndarray, x_F: np.ndarray) -> float:
    """Eq. 7's inner product, or the authors' MLP over [h; x] with sigmoids."""
    if model.teller is None:
        project = np.eye(len(x_F)) if len(x_F) == len(h_H) else numpy_of(model.to_hidden.weight)  # type: ignore[arg-type]
        return float(h_H @ project @ x_F)
    *inner, last = [layer for layer in model.teller if isinstance(layer, torch.nn.Linear)]
    x = np.concatenate([h_H, x_F])
    for layer in inner:
        x = sigmoid(numpy_of(layer.weight) @ x + numpy_of(layer.bias))
    return float(numpy_of(last.weight)[0] @ x + numpy_of(last.bias)[0])


def test_no_auxiliary_loss_where_it_is_off_or_in_evaluation() -> None:
    batch = dataclasses.replace(toy.toy_batch(), negatives_BLK=torch.ones(8, 10, 1, dtype=torch.int64))
    for model in (dien(auxiliary=0.0).train(), dien(auxiliary=1.0)):
        model.score_corpus(batch)
        assert model.auxiliary_loss() is None
    assert toy.small_config("dien", auxiliary=0.0).history_negatives == 0
    assert toy.small_config("dien", auxiliary=0.5).history_negatives == 1
    assert toy.small_config("din").history_negatives == 0


AS_IN_THE_CODE = {
    "evolution": "augru_keep",
    "attention": "unit",
    "pooled": "sum",
    "auxiliary_mlp": [6, 4],
    "auxiliary_negatives": "popularity",
    "user_id": True,
}


@pytest.mark.parametrize("changes", [*({"evolution": e, "pooled": "mean"} for e in EVOLUTIONS), AS_IN_THE_CODE])
def test_all_positions_at_once_equal_a_row_a_prefix(changes: dict[str, object]) -> None:
    model, batch = dien(**changes), toy.padded(toy.toy_batch(), 2)
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


def test_the_authors_code_as_settings_learns_and_scores_alike_however_it_is_asked() -> None:
    model, batch = dien(**AS_IN_THE_CODE), toy.toy_batch()
    items = torch.tensor([[3, 17, 40]]).expand(len(batch), -1)
    corpus = model.score_corpus(batch)
    with torch.no_grad():
        torch.testing.assert_close(model.score_corpus(toy.padded(batch, 2)), corpus, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.score(batch, items), corpus.gather(1, items), rtol=1e-4, atol=1e-5)
    course = list(toy.losses(dien(**AS_IN_THE_CODE), steps=80, lr=0.01))
    assert course[-1] < 0.7 * course[0]
    toy.toy_loss(model.train(), batch).backward()
    untouched = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert set(untouched) <= {"unit.weight.bias"}  # which a softmax does not feel
