"""Owners' shares of the softmax against what is due to them: value and gradient by autograd, and what weight 0 is."""

import pytest
import torch
from test_objectives import Fixed, window_batch
from test_sampled_objective import Biased

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.objective.next_item import Config
from seqrec_cli.config.validate import validate
from seqrec_cli.objectives import owner_exposure
from seqrec_cli.objectives.next_item import Objective
from seqrec_cli.objectives.owner_exposure import exposure_divergence
from tests.shipped import shipped

V, D, N = 9, 4, 13
OWNER_V1 = torch.tensor([0, 1, 2, 0, 3, 1, 2, 2, 0, 3])  # items 3 and 8 are nobody's
DUE_O = torch.tensor([0.5, 0.5, 0.0])


def by_autograd(queries_ND: torch.Tensor, table_VD: torch.Tensor, bias_V: torch.Tensor | None) -> torch.Tensor:
    scores_NV = queries_ND @ table_VD[1:].T
    chances_NV = (scores_NV if bias_V is None else scores_NV + bias_V[1:]).softmax(1)
    shown_O = torch.stack([chances_NV[:, OWNER_V1[1:] == owner].sum() for owner in (1, 2, 3)])
    shares_O = shown_O / shown_O.sum()
    return (DUE_O[:2] * (DUE_O[:2] / shares_O[:2]).log()).sum()  # nothing is due to the third


@pytest.mark.parametrize("rows", [1, 5, 100])  # in chunks, and all at once
@pytest.mark.parametrize("biased", [False, True])
def test_value_and_gradient_are_those_of_the_formula(monkeypatch: pytest.MonkeyPatch, biased: bool, rows: int) -> None:
    monkeypatch.setattr(owner_exposure, "chunk_rows", lambda *_, **__: rows)
    torch.manual_seed(0)
    leaves = [torch.randn(N, D), torch.randn(V + 1, D), *([torch.randn(V + 1)] if biased else [])]
    results = []
    for ours in (True, False):
        own = [leaf.clone().requires_grad_() for leaf in leaves]
        bias_V = own[2] if biased else None
        if ours:
            loss = exposure_divergence(own[0], own[1], bias_V, owner_V1=OWNER_V1, due_O=DUE_O, chunk_mb=1)
        else:
            loss = by_autograd(own[0], own[1], bias_V)
        (3 * loss).backward()
        results.append([loss.detach(), *(leaf.grad for leaf in own)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_in_proportion_it_costs_nothing() -> None:
    queries_ND, table_VD = torch.zeros(2, D), torch.randn(V + 1, D)  # all items alike
    owner_V1 = torch.tensor([0, 1, 1, 2, 2, 2, 2, 3, 3, 0])
    loss = exposure_divergence(
        queries_ND, table_VD, None, owner_V1=owner_V1, due_O=torch.tensor([0.25, 0.5, 0.25]), chunk_mb=1
    )
    assert loss.item() == pytest.approx(0, abs=1e-6)


def objective(weight: float) -> Objective:
    settings = shipped("objective", "next_item") | {"negatives": None, "owner_weight": weight}
    built = Objective(Config(**settings))  # type: ignore[arg-type]
    built.owner_V1, built.due_O = torch.tensor([0, 1, 1, 2, 2, 2, 0]), torch.tensor([0.9, 0.1])
    return built


def test_it_is_added_by_its_weight_in_training_alone() -> None:
    torch.manual_seed(0)
    model, batch = Fixed(torch.randn(7, D)), window_batch()
    plain, owned = objective(0.0), objective(0.5)
    loss = plain.loss(model, batch)
    more = exposure_divergence(
        model.table[[1, 2, 3, 4]], model.table, None, owner_V1=owned.owner_V1, due_O=owned.due_O, chunk_mb=1
    )
    assert more.item() > 0.01
    assert owned.loss(model, batch).item() == pytest.approx((loss + 0.5 * more).item(), rel=1e-5)
    with torch.no_grad():
        assert owned.loss(model, batch).item() == pytest.approx(loss.item(), rel=1e-5)


def test_what_it_adds_is_of_scores_with_their_bias_and_moves_states_too() -> None:
    torch.manual_seed(0)
    model, batch = Biased(torch.randn(7, D)), window_batch()
    plain, owned = objective(0.0), objective(0.5)
    found = []
    for by_hand in (False, True):
        loss = plain.loss(model, batch) if by_hand else owned.loss(model, batch)
        if by_hand:
            scores_NV = model.table[[1, 2, 3, 4]] @ model.table[1:].T + model.bias[1:]
            shown_V = scores_NV.softmax(1).sum(0)
            shown_O = torch.stack([shown_V[[0, 1]].sum(), shown_V[[2, 3, 4]].sum()])
            loss = loss + 0.5 * (owned.due_O * (owned.due_O / (shown_O / shown_O.sum())).log()).sum()
        found.append([loss, *torch.autograd.grad(loss, [model.table, model.bias])])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_owners_come_nearer_to_what_is_due_to_them() -> None:
    torch.manual_seed(0)
    batch, after = window_batch(), []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        model, built = Fixed(torch.randn(7, D)), objective(weight)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
        for _ in range(30):
            optimizer.zero_grad()
            built.loss(model, batch).backward()
            optimizer.step()
        queries = model.table[[1, 2, 3, 4]]
        kind = {"owner_V1": built.owner_V1, "due_O": built.due_O, "chunk_mb": 1}
        after.append(exposure_divergence(queries, model.table, None, **kind).item())
    assert after[1] < 0.5 * after[0]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["objective.negatives=64"], "of a softmax over the whole corpus"),
        (["objective.negatives=null", "hardware.table=sharded"], "reads the scores of all items"),
        (["objective.negatives=null", "trainer.micro_batch_tokens=64"], "statistics of the whole batch"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(overrides: list[str], words: str) -> None:
    with pytest.raises(SeqrecError, match=words):
        validate("train", compose("train", ["objective=next_item", "objective.owner_weight=0.5", *overrides]))
