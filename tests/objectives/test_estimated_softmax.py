"""`objective.negatives` of next_item and cloze: drawn items stand for a large corpus in its softmax."""

from typing import Any

import pytest
import torch
from test_objectives import Fixed

from seqrec_cli.config.registry import config_class
from seqrec_cli.data.batch import Batch
from seqrec_cli.objectives.contract import Objective, build_objective
from tests.shipped import shipped

V, D = 30, 8
COUNTS_V = torch.zeros(V + 1, dtype=torch.int64).index_fill(0, torch.tensor([2, 3, 5, 6]), 1)  # the batch's targets
NAMES = ["next_item", "cloze"]


def objective(name: str, **changes: Any) -> Objective:
    plain: dict[str, Any] = shipped("objective", name)
    built = build_objective(config_class("objective", name).from_plain(plain | changes))  # type: ignore[arg-type]
    built.prepare(COUNTS_V)
    return built


def batch() -> Batch:
    return Batch(
        users_B=torch.tensor([1, 2]),
        items_BL=torch.tensor([[2, 3, 5], [6, 0, 0]]),
        lengths_B=torch.tensor([3, 1]),
        targets_BL=torch.tensor([[3, 5, 6], [2, 0, 0]]),
    )


def model() -> Fixed:
    torch.manual_seed(3)
    return Fixed(torch.randn(V + 1, D) / D**0.5)


@pytest.mark.parametrize("name", NAMES)
def test_with_many_draws_it_is_the_whole_softmax(name: str) -> None:
    encoder = model()
    whole = objective(name, negatives=None).loss(encoder, batch())
    torch.manual_seed(5)
    estimated, few = objective(name, negatives=200_000), objective(name, negatives=2)
    assert estimated.loss(encoder, batch()).item() == pytest.approx(whole.item(), rel=0.01)
    assert few.loss(encoder, batch()).item() != pytest.approx(whole.item(), rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_a_few_draws_are_half_of_the_batch_and_corrected_beside_a_target_as_it_is(name: str) -> None:
    losses = {}
    plain = {"negatives": 6, "shared": "batch", "sampling": "mixed", "uniform_share": 0.5}
    for log_q in ("none", "negatives", "all"):
        torch.manual_seed(5)
        losses[log_q] = objective("sampled_softmax", **plain, log_q=log_q).loss(model(), batch()).item()
    torch.manual_seed(5)
    loss = objective(name, negatives=6).loss(model(), batch()).item()
    assert [log_q for log_q, each in losses.items() if each == pytest.approx(loss, rel=1e-6)] == ["negatives"]


@pytest.mark.parametrize("name", NAMES)
def test_items_without_events_are_pushed_down_too(name: str) -> None:
    encoder = model()
    torch.manual_seed(1)
    objective(name, negatives=64).loss(encoder, batch()).backward()
    gradient = next(p.grad for p in encoder.parameters() if p.grad is not None and p.shape == (V + 1, D))
    unseen = torch.nonzero(COUNTS_V[1:] == 0)[:, 0] + 1
    assert (gradient[unseen].abs().sum(1) > 0).float().mean() > 0.5


def test_memory_is_that_of_the_draws() -> None:
    few, whole = (
        objective("next_item", negatives=negatives).scratch_bytes(
            10**6, 100, dtype=torch.float32, device=torch.device("cpu")
        )
        for negatives in (16, None)
    )
    assert few < whole / 1000
