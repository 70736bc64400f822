"""What all rankers share: L2 of a batch's rows, unknown items and users, dropout of embeddings, and context."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toy
from sklearn.metrics import roc_auc_score
from torch import Tensor

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Attribute, Catalog
from seqrec_cli.models.build import build_model
from seqrec_cli.models.ranker import Ranker

RANKERS = ["avgpool", "bst", "dien", "din", "dsin", "widedeep"]


def ranker(name: str, catalog: Catalog | None = None, seed: int = 0, **changes: object) -> Ranker:
    model = build_model(toy.small_config(name, **{"init_std": 0.5, **changes}), catalog or toy.toy_catalog(), seed)
    assert isinstance(model, Ranker)
    return model


def counts(size: int, none: tuple[int, ...] = ()) -> Tensor:
    """Training events of rows 1 and on: 1, 2, 3, ..., but none of some."""
    found = torch.arange(size)
    found[list(none)] = 0
    return found


@pytest.mark.parametrize("name", RANKERS)
def test_l2_weighs_each_row_of_the_batch_once_by_its_training_events(name: str) -> None:
    model, batch = ranker(name, l2=0.3, user_id=True).train(), toy.toy_batch()
    model.prepare(counts(toy.ITEMS + 1), counts(toy.USERS + 1))
    batch = dataclasses.replace(batch, negatives_BLK=None)
    assert batch.candidates_BC is not None
    got = model.penalty(batch)
    assert got is not None
    items = {*batch.items_BL.flatten().tolist(), *batch.candidates_BC.flatten().tolist()} - {0}
    assert model.items.own is not None
    assert model.users.own is not None
    expected = sum(model.items.own.weight[j].square().sum() / j for j in items)
    expected += sum(model.users.own.weight[u].square().sum() / u for u in batch.users_B.tolist())
    torch.testing.assert_close(got, 0.15 * expected, rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]
    got.backward()
    gradient = model.items.own.weight.grad
    assert gradient is not None
    assert {int(j) for j in gradient.any(1).nonzero()} == items
    torch.testing.assert_close(gradient[40], 0.3 * model.items.own.weight[40].detach() / 40)  # eq. 6


def test_no_l2_in_evaluation_or_when_it_is_off() -> None:
    batch = dataclasses.replace(toy.toy_batch(), negatives_BLK=None)
    for model in (ranker("din").train(), ranker("din", l2=0.3).eval()):
        assert model.penalty(batch) is None


@pytest.mark.parametrize("name", RANKERS)
def test_items_and_users_without_training_events_are_scored_by_their_attributes_and_a_shared_vector(name: str) -> None:
    model, batch = ranker(name, unknown=0.3, user_id=True).eval(), toy.toy_batch()
    twins = [(i, j) for i in range(1, 41) for j in range(i + 1, 41) if features(i) == features(j)]
    pair = twins[0]
    before = model.score_corpus(batch)
    model.prepare(counts(toy.ITEMS + 1, pair), counts(toy.USERS + 1, (1, 4)))
    after = model.score_corpus(batch)
    assert not torch.allclose(before[:, pair[0]], before[:, pair[1]])
    if name != "widedeep":  # whose crosses have weights of their own
        torch.testing.assert_close(after[:, pair[0]], after[:, pair[1]])
    as_user = lambda u: dataclasses.replace(toy.rows(batch, slice(0, 1)), users_B=torch.tensor([u]))  # noqa: E731
    one, four, two, nobody = (model.score_corpus(as_user(u)) for u in (1, 4, 2, 0))
    assert torch.equal(one, four)  # of the same segment, both unknown
    assert not torch.allclose(one, two)
    assert torch.isfinite(nobody).all()
    copy = ranker(name, unknown=0.3, user_id=True).eval()
    copy.load_state_dict(model.state_dict())
    assert torch.equal(copy.score_corpus(batch), after)  # a checkpoint knows who is unknown


def features(item: int) -> tuple[frozenset[int], int]:
    values = toy.toy_catalog().item_values
    return frozenset(values["genre"][item].tolist()) - {0}, int(values["decade"][item, 0])


def test_hidden_ids_teach_the_unknown_row_and_padding_stays_zero() -> None:
    model = ranker("din", unknown=0.5)
    assert model.items.own is not None
    many = torch.arange(1, 41).repeat(50)
    share = (model.train().items._known(many) == 41).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.05)
    assert torch.equal(model.items._known(torch.zeros(9, dtype=torch.int64)), torch.zeros(9, dtype=torch.int64))
    assert torch.equal(model.eval().items._known(many), many)
    before = model.items.own.weight[41].clone()
    list(toy.losses(model, steps=2, lr=0.01))
    assert not torch.equal(model.items.own.weight[41], before)
    assert not model.items.own.weight[0].any()


def cold_start_auc(unknown: float) -> float:
    """AUC on items that training never saw: a click is a candidate of the history's one color."""
    rng = np.random.default_rng(0)
    colors = 1 + np.arange(61) % 3
    colors[0] = 0
    catalog = Catalog(1, 60, (Attribute("color", 4, 1),), (), {"color": colors[:, None].astype(np.int32)}, {})
    model = ranker("avgpool", catalog, unknown=unknown, user_id=False)
    seen = np.arange(61) <= 40
    model.prepare(torch.from_numpy(seen.astype(np.int64)), torch.zeros(2, dtype=torch.int64))
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)

    def batch(first: int, last: int) -> Batch:
        wanted_B = rng.integers(1, 4, 64)
        known = np.arange(1, 41)
        histories = np.stack([rng.choice(known[colors[known] == color], 4) for color in wanted_B])
        candidates = rng.integers(first, last + 1, (64, 2))
        labels = (colors[candidates] == wanted_B[:, None]).astype(np.float32)
        tensors = [torch.from_numpy(x) for x in (histories, candidates, labels)]
        ones = torch.ones(64, dtype=torch.int64)
        return Batch(ones, tensors[0], 4 * ones, candidates_BC=tensors[1], labels_BC=tensors[2])

    for _ in range(8):
        optimizer.zero_grad()
        toy.toy_loss(model.train(), dataclasses.replace(batch(1, 40), targets_BL=torch.ones(64, 4).long())).backward()
        optimizer.step()
    held_out = batch(41, 60)
    assert held_out.candidates_BC is not None
    assert held_out.labels_BC is not None
    with torch.no_grad():
        logits = model.eval().score(held_out, held_out.candidates_BC)
    return float(roc_auc_score(held_out.labels_BC.flatten(), logits.flatten()))


def test_items_that_training_never_saw_are_ranked_better_with_a_learned_unknown_row() -> None:
    without, with_row = cold_start_auc(0.0), cold_start_auc(0.3)
    assert with_row > 0.95
    assert with_row > without + 0.05


def test_dropout_of_embeddings_acts_in_training_alone() -> None:
    model = ranker("din", embedding_dropout=0.5)
    vectors = model.train().items.joined(torch.arange(1, 41))[:, :16]  # an item's own: some have no decade
    assert (vectors == 0).float().mean().item() == pytest.approx(0.5, abs=0.07)
    assert model.eval().items.joined(torch.arange(1, 41))[:, :16].all()


def with_context() -> Catalog:
    return dataclasses.replace(
        toy.toy_catalog(), context_attributes=(Attribute("hour", 25, 1), Attribute("device", 4, 1))
    )


@pytest.mark.parametrize("name", RANKERS)
def test_context_reaches_the_logit_and_none_is_zero(name: str) -> None:
    model = ranker(name, with_context()).eval()
    assert model.from_context is not None
    batch, generator = toy.toy_batch(), torch.Generator().manual_seed(0)
    context = torch.stack([torch.randint(1, n, (toy.USERS,), generator=generator) for n in (25, 4)], dim=1)
    scores = [
        model.score_corpus(dataclasses.replace(batch, context_BF=c)) for c in (context, context % 3, 0 * context, None)
    ]
    assert not torch.allclose(scores[0], scores[1])
    assert torch.equal(scores[2], scores[3])
    table, weight = model.context.table.weight, model.from_context.weight  # type: ignore[union-attr]
    hour, device = table[context[:, 0]], table[24 + context[:, 1]]
    expected = torch.cat([hour, device], dim=1) @ weight.T
    plain = model.request(dataclasses.replace(batch, context_BF=None))
    got = model.request(dataclasses.replace(batch, context_BF=context))
    assert got is not None
    assert plain is not None
    torch.testing.assert_close(got - plain, expected[:, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["avgpool", "dien", "din", "widedeep"])
def test_each_candidate_may_have_a_context_of_its_own(name: str) -> None:
    model, batch = ranker(name, with_context()).eval(), toy.toy_batch()
    items = torch.tensor([[3, 17]]).expand(toy.USERS, -1)
    ends = batch.lengths_B[:, None].expand(-1, 2)
    context = torch.tensor([[5, 1], [20, 3]]).expand(toy.USERS, -1, -1)
    got = model.score_positions(dataclasses.replace(batch, context_BCF=context), items, ends)
    for place in range(2):
        alone = dataclasses.replace(batch, context_BF=context[:, place])
        torch.testing.assert_close(got[:, place], model.score(alone, items)[:, place], rtol=1e-4, atol=1e-5)


def test_losses_fall_with_every_help_at_once() -> None:
    model = ranker("dien", unknown=0.1, l2=0.01, embedding_dropout=0.1, dropout=0.1)
    model.prepare(counts(toy.ITEMS + 1), counts(toy.USERS + 1))
    course = list(toy.losses(model, steps=40, lr=0.01))
    assert course[-1] < 0.7 * course[0]
    assert F.softplus(torch.tensor(0.0)) < course[0]
