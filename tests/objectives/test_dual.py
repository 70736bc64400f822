"""The next item, and items that agree with their users: against a loop over items, and nothing without a weight."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_all_action import objective

from seqrec_cli.commands.dispatch import record_of
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.objectives.dual import Objective, OfUsers, made_of_users
from tests.models import toy

TARGETS = torch.tensor([[2, 3, 4, 9, 2], [3, 7, 0, 0, 0]])
ITEMS = torch.tensor([[1, 2, 3, 4, 9], [4, 1, 0, 0, 0]])
WEIGHTS = torch.tensor([[1.0, 2.0, 0.5, 1.0, 3.0], [1.0, 1.0, 0.0, 0.0, 0.0]])
DUAL: dict[str, Any] = {"consistency": 0.7, "consistency_temperature": 0.2}


def batch(weights: torch.Tensor | None = None) -> Batch:
    of = Batch(torch.tensor([1, 2]), ITEMS, torch.tensor([5, 2]))
    return dataclasses.replace(of, targets_BL=TARGETS, weights_BL=weights)


def model(**changes: Any) -> ItemEncoder:
    """In training, without dropout."""
    found = toy.toy_model("sasrec", init_std=0.5, dropout=0.0, attention_dropout=0.0, **changes)
    assert isinstance(found, ItemEncoder)
    return found.train()


def learned(of: ItemEncoder, loss: torch.Tensor) -> list[torch.Tensor]:
    of.zero_grad()
    loss.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in of.parameters()]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_no_weight_is_next_item_to_the_bit(weights: torch.Tensor | None) -> None:
    of = model(item_bias=True)
    ours = objective("dual", **DUAL | {"consistency": 0.0}).loss(of, batch(weights))
    plain = objective("next_item", negatives=None).loss(of, batch(weights))
    assert torch.equal(ours, plain)
    for own, other in zip(learned(of, ours), learned(of, plain), strict=True):
        assert torch.equal(own, other)


def by_hand(of: ItemEncoder, form: str, weights: torch.Tensor) -> torch.Tensor:
    """The mean over the batch's items, one after another."""
    hidden_BLD, table_VD, terms = of.encode(batch()), of.item_table(), []
    for item in (2, 3, 4, 7, 9):
        places = [(b, at) for b in range(2) for at in range(5) if TARGETS[b, at] == item]
        total = sum(weights[b, at] for b, at in places)
        mean_D = torch.stack([weights[b, at] * hidden_BLD[b, at] for b, at in places]).sum(0) / total
        if form == "cosine":
            terms.append(1 - F.cosine_similarity(mean_D, table_VD[item], dim=0))
        else:
            cosines_V = F.normalize(table_VD[1:], dim=1) @ F.normalize(mean_D, dim=0)
            terms.append(F.cross_entropy(cosines_V / 0.2, torch.tensor(item - 1)))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("form", ["cosine", "contrast"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("temperature", [None, 0.5])
def test_equals_a_loop_over_the_items_of_the_batch(
    form: str, weights: torch.Tensor | None, temperature: float | None
) -> None:
    of = model(temperature=temperature)
    plain = objective("next_item", negatives=None).loss(of, batch(weights))
    expected = plain + 0.7 * by_hand(of, form, torch.ones(2, 5) if weights is None else weights)
    ours = objective("dual", **DUAL, consistency_form=form).loss(of, batch(weights))
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    for own, other in zip(learned(of, ours), learned(of, expected), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("form", ["cosine", "contrast"])
def test_gradients_reach_the_side_that_moves(form: str) -> None:
    states_SD, of = torch.randn(3, 8, requires_grad=True), model(embed_dim=8)
    given = OfUsers(torch.tensor([2, 5, 1]), states_SD, torch.tensor([1.0, 1.0, 0.0]))
    for moves in ("both", "items", "states"):
        made = objective("dual", **DUAL, consistency_form=form, consistency_moves=moves)
        assert isinstance(made, Objective)
        states_SD.grad = None
        table, *_ = [g for g in learned(of, made.consistency(of, given)) if g.shape == of.items.weight.shape]
        moved = states_SD.grad is not None and bool(states_SD.grad[:2].abs().sum() > 0)
        assert (bool(table.abs().sum() > 0), moved) == (moves != "states", moves != "items")


def test_places_without_an_item_count_nothing() -> None:
    """As a GPU has them, which is not asked how many items there are."""
    of, (items_S, states_SD, there_S) = model(embed_dim=8), (torch.tensor([2, 5]), torch.randn(2, 8), torch.ones(2))
    wider = OfUsers(*(F.pad(x, (*([0, 0] if x.dim() == 2 else []), 0, 2)) for x in (items_S, states_SD, there_S)))
    wider = wider._replace(items_S=wider.items_S.clamp(min=1))
    for form in ("cosine", "contrast"):
        made = objective("dual", **DUAL, consistency_form=form)
        assert isinstance(made, Objective)
        tight = made.consistency(of, OfUsers(items_S, states_SD, there_S))
        assert made.consistency(of, wider).item() == pytest.approx(tight.item(), rel=1e-5)


def test_an_item_is_the_mean_of_its_users() -> None:
    states, targets = torch.arange(8.0).view(4, 2), torch.tensor([7, 3, 7, 3])
    items, means, there = made_of_users(states, targets, None)
    assert items.tolist() == [3, 7]
    assert means.tolist() == [[4, 5], [2, 3]]
    assert there.tolist() == [1, 1]
    _, weighed, there = made_of_users(states, targets, torch.tensor([3.0, 0.0, 1.0, 0.0]))
    assert weighed[1].tolist() == [1, 2]
    assert there.tolist() == [0, 1]  # an item of no weight is not there


def test_in_evaluation_the_next_item_stands_alone() -> None:
    of = model().eval()
    plain = objective("next_item", negatives=None).target_loss(of, batch())
    assert objective("dual", **DUAL).target_loss(of, batch()).item() == plain.item()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model=din"], "objective=dual cannot train model=din"),
        (["model=bert4rec"], "objective=dual cannot train model=bert4rec"),
        (["hardware.processes=2"], "hardware.processes=2: objective.consistency=1: an item's users are in the rows"),
        (["hardware.table=sharded"], "objective.consistency: an item's users are in the rows of several processes"),
        (["hardware.embedding=sparse"], "objective=dual needs the whole item table"),
        (["trainer.micro_batch_tokens=100"], "objective.consistency=1 learns from statistics of the whole batch"),
        (["objective.consistency=-1"], "objective.consistency"),
        (
            ["objective.consistency_form=cosine", "objective.consistency_temperature=0.5"],
            "objective.consistency_temperature=0.5 has no effect with objective.consistency_form=cosine",
        ),
        (["objective=click", "model=din", "+objective.consistency=0.1"], "objective.consistency"),
    ],
)
def test_what_it_cannot_train_is_refused_in_a_line(words: list[str], says: str) -> None:
    given = [*([] if "objective=click" in words else ["objective=dual"]), *words]
    with pytest.raises(SeqrecError, match=says) as refusal:
        record_of("train", compose("train", given), given)
    assert "\n" not in str(refusal.value)
    validate("train", compose("train", ["objective=dual", "objective.consistency=0", "hardware.processes=2"]))
