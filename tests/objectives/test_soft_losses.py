"""Distillation's loss against its definition, written down with torch's own operations in fp64, gradients included."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_objectives import Fixed, window_batch
from torch import Tensor

from seqrec_cli.config.registry import config_class
from seqrec_cli.objectives import soft_losses
from seqrec_cli.objectives.contract import build_objective
from seqrec_cli.objectives.distil import without_next
from seqrec_cli.objectives.soft_losses import Soft, distilled_cross_entropy
from tests.shipped import shipped

N, D, V = 23, 6, 31


def given(top: int, leave_out: bool = False, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Queries, table, targets, and a teacher's first items with their shares of all."""
    generator = torch.Generator().manual_seed(seed)
    queries_ND = torch.randn(N, D, generator=generator)
    table_VD = torch.randn(V + 1, D, generator=generator)
    targets_N = torch.randint(1, V + 1, (N,), generator=generator)
    shares_NK, columns_NK = torch.softmax(2 * torch.randn(N, V, generator=generator), 1).topk(top)
    items_NK = columns_NK + 1
    if leave_out:
        shares_NK = without_next(items_NK, shares_NK, targets_N)
    return queries_ND, table_VD, targets_N, items_NK, shares_NK


def defined(
    queries_ND: Tensor, table_VD: Tensor, targets_N: Tensor, soft: Soft, *, bias_V: Tensor | None, smoothing: float
) -> Tensor:
    """The loss of each target, [N]."""
    scores_NV = queries_ND @ table_VD[1:].T + (0 if bias_V is None else bias_V[1:])
    hard_N = F.cross_entropy(scores_NV, targets_N - 1, reduction="none", label_smoothing=smoothing)
    divergences = []
    for n, scores_V in enumerate(scores_NV / soft.temperature):
        asked_V = torch.ones_like(scores_V, dtype=torch.bool)
        if soft.leave_out:
            asked_V[targets_N[n] - 1] = False
        own_V = torch.softmax(scores_V.masked_fill(~asked_V, -torch.inf), 0)
        theirs_K = soft.shares_NK[n].double()
        kept_V = torch.zeros_like(asked_V)
        kept_V[soft.items_NK[n] - 1] = True
        pairs = [(p, own_V[item - 1]) for p, item in zip(theirs_K, soft.items_NK[n].tolist(), strict=True) if p > 0]
        if not kept_V.all():
            pairs.append((1 - theirs_K.sum(), own_V[~kept_V].sum()))
        divergences.append(sum(p * (p.log() - q.log()) for p, q in pairs))
    return (1 - soft.alpha) * hard_N + soft.alpha * soft.temperature**2 * torch.stack(divergences)


@pytest.mark.parametrize(
    ("top", "alpha", "temperature", "leave_out", "bias", "weights", "smoothing"),
    [
        (5, 0.3, 1.0, False, False, False, 0.0),
        (5, 0.7, 2.5, False, True, False, 0.0),
        (5, 0.7, 0.5, True, True, True, 0.0),
        (V, 1.0, 3.0, False, False, True, 0.0),  # all items: no remainder
        (1, 0.5, 2.0, True, False, False, 0.1),
    ],
)
def test_loss_and_gradients_are_those_of_the_definition(
    monkeypatch: pytest.MonkeyPatch,
    top: int,
    alpha: float,
    temperature: float,
    leave_out: bool,
    bias: bool,
    weights: bool,
    smoothing: float,
) -> None:
    monkeypatch.setattr(soft_losses, "chunk_rows", lambda *given, **named: 7)  # several chunks, the last one small
    queries_ND, table_VD, targets_N, items_NK, shares_NK = given(top, leave_out)
    soft = Soft(items_NK, shares_NK, alpha, temperature, leave_out)
    found = []
    for ours in (True, False):
        dtype = torch.float32 if ours else torch.float64
        leaves = [queries_ND.to(dtype, copy=True).requires_grad_(), table_VD.to(dtype, copy=True).requires_grad_()]
        bias_V = torch.linspace(-1, 1, V + 1, dtype=dtype).requires_grad_() if bias else None
        weights_N = torch.linspace(0.5, 1.5, N, dtype=dtype) if weights else None
        if ours:
            loss = distilled_cross_entropy(
                *leaves, targets_N, soft=soft, chunk_mb=1, bias_V=bias_V, label_smoothing=smoothing, weights_N=weights_N
            )
        else:
            losses_N = defined(*leaves, targets_N, soft, bias_V=bias_V, smoothing=smoothing)
            loss = (losses_N if weights_N is None else losses_N * weights_N).mean()
        (3 * loss).backward()
        found.append([loss.detach(), *(leaf.grad for leaf in (*leaves, bias_V) if leaf is not None)])
    for mine, defined_value in zip(*found, strict=True):
        torch.testing.assert_close(mine.double(), defined_value.double(), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("said", "temperature", "compared_at"), [("scores", 2.0, 2.0), ("ranks", 3.0, 1.0), ("scores", 0.5, 0.5)]
)
@pytest.mark.parametrize("next_item", ["keep", "leave_out"])
def test_the_objective_s_settings_and_the_data_s_weights_reach_the_loss(
    said: str, temperature: float, compared_at: float, next_item: str
) -> None:
    changes = {"teacher": "a run", "alpha": 0.7, "soft_targets": said, "next_item": next_item}
    plain = shipped("objective", "distil") | changes | {"temperature": temperature}
    objective = build_objective(config_class("objective", "distil").from_plain(plain))  # type: ignore[arg-type]
    torch.manual_seed(0)
    model, batch = Fixed(torch.randn(7, 4)), window_batch()
    soft_items_BLK = torch.tensor([[[2, 5], [1, 3], [4, 2]], [[6, 3], [0, 0], [0, 0]]])
    soft_shares_BLK = torch.tensor([[[0.5, 0.2], [0.6, 0.1], [0.3, 0.3]], [[0.4, 0.2], [0.0, 0.0], [0.0, 0.0]]])
    weights_BL = torch.tensor([[0.5, 2.0, 1.5], [3.0, 0.0, 0.0]])
    given = {"soft_items_BLK": soft_items_BLK, "soft_shares_BLK": soft_shares_BLK, "weights_BL": weights_BL}
    found = objective.target_loss(model, replace(batch, **given))
    places_N, targets_N = torch.tensor([0, 1, 2, 3]), torch.tensor([2, 3, 4, 1])
    items_NK, shares_NK = soft_items_BLK.flatten(0, 1)[places_N], soft_shares_BLK.flatten(0, 1)[places_N]
    leave_out = next_item == "leave_out"
    if leave_out:
        shares_NK = without_next(items_NK, shares_NK, targets_N)
    soft = Soft(items_NK, shares_NK, 0.7, compared_at, leave_out)
    table_VD = model.table.detach().double()
    losses_N = defined(table_VD[[1, 2, 3, 4]], table_VD, targets_N, soft, bias_V=None, smoothing=0.0)
    expected = (losses_N * weights_BL.flatten()[places_N]).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_without_the_next_item_the_others_and_the_remainder_are_shares_of_what_is_left() -> None:
    items_NK, targets_N = torch.tensor([[2, 5], [1, 3], [4, 2]]), torch.tensor([2, 6, 4])
    shares_NK = torch.tensor([[0.5, 0.2], [0.6, 0.1], [1.0, 0.0]])
    expected = torch.tensor([[0.0, 0.2 / (0.2 + 0.3)], [0.6, 0.1], [0.0, 0.0]])
    torch.testing.assert_close(without_next(items_NK, shares_NK, targets_N), expected)


def test_a_student_that_says_what_the_teacher_says_has_nothing_to_learn_from_it() -> None:
    queries_ND, table_VD, targets_N, _, _ = given(5)
    temperature = 2.0
    shares_NV = torch.softmax(queries_ND @ table_VD[1:].T / temperature, 1)
    shares_NK, columns_NK = shares_NV.topk(5)
    queries_ND.requires_grad_()
    soft = Soft(columns_NK + 1, shares_NK, 1.0, temperature, False)
    loss = distilled_cross_entropy(queries_ND, table_VD, targets_N, soft=soft, chunk_mb=1)
    (grad_ND,) = torch.autograd.grad(loss, queries_ND)
    assert abs(loss.item()) < 1e-5
    assert grad_ND.abs().max() < 1e-6


def test_the_remainder_never_makes_more_of_a_difference_than_all_items_do() -> None:
    queries_ND, table_VD, targets_N, items_NK, shares_NK = given(V)
    values = []
    for top in (1, 4, 12, V):
        soft = Soft(items_NK[:, :top], shares_NK[:, :top], 1.0, 1.0, False)
        values.append(distilled_cross_entropy(queries_ND, table_VD, targets_N, soft=soft, chunk_mb=1).item())
    assert 0 < values[0] < values[1] < values[2] < values[3] + 1e-6


def test_bf16_products_give_nearly_the_same() -> None:
    queries_ND, table_VD, targets_N, items_NK, shares_NK = given(5)
    soft = Soft(items_NK, shares_NK, 0.5, 2.0, False)
    found = []
    for low in (False, True):
        queries = queries_ND.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            loss = distilled_cross_entropy(queries, table_VD, targets_N, soft=soft, chunk_mb=1)
        (grad,) = torch.autograd.grad(loss, queries)
        found.append((loss.detach(), grad))
    torch.testing.assert_close(found[1], found[0], rtol=0.05, atol=0.003)


def test_scores_far_apart_give_finite_gradients() -> None:
    """The student is sure of items that the teacher gives a remainder: its own remainder underflows."""
    table_VD = torch.zeros(V + 1, 1)
    table_VD[1, 0], table_VD[2, 0] = 300.0, 299.0
    queries_ND = torch.ones(1, 1, requires_grad=True)
    soft = Soft(torch.tensor([[1, 2]]), torch.tensor([[0.3, 0.3]]), 0.5, 1.0, False)
    loss = distilled_cross_entropy(queries_ND, table_VD, torch.tensor([2]), soft=soft, chunk_mb=1)
    (grad_ND,) = torch.autograd.grad(loss, queries_ND)
    assert torch.isfinite(loss)
    assert torch.isfinite(grad_ND).all()
