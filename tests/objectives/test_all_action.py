"""All of the next events as targets: against a loop over positions and their futures."""

import pytest
import torch
import torch.nn.functional as F
from test_objectives import Fixed
from test_sampled_objective import Biased

from seqrec_cli.config.registry import config_class
from seqrec_cli.data.batch import Batch
from seqrec_cli.objectives.all_action import drawn_from_future, mean_of_future
from seqrec_cli.objectives.contract import Objective, build_objective
from tests.shipped import shipped

V, D = 12, 5
TARGETS = torch.tensor([[2, 3, 4, 9, 2], [1, 7, 0, 0, 0]])


def objective(name: str, **changes: object) -> Objective:
    plain = shipped("objective", name)
    assert isinstance(plain, dict)
    built = build_objective(config_class("objective", name).from_plain({**plain, **changes}))  # type: ignore[arg-type]
    built.prepare(torch.arange(V + 1))
    return built


def batch() -> Batch:
    items = torch.tensor([[1, 2, 3, 4, 9], [4, 1, 0, 0, 0]])
    return Batch(torch.tensor([1, 2]), items, torch.tensor([5, 2]), targets_BL=TARGETS)


def futures(horizon: int) -> list[tuple[int, list[int]]]:
    """(item at the position, events of its future)."""
    found = []
    for row, n in ((0, 5), (1, 2)):
        for at in range(n):
            found.append((int(batch().items_BL[row, at]), TARGETS[row, at : min(at + horizon, n)].tolist()))
    return found


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", [Fixed, Biased])
@pytest.mark.parametrize("horizon", [1, 2, 3, 50])
def test_equals_the_mean_over_a_position_s_future(horizon: int, kind: type, smoothing: float) -> None:
    torch.manual_seed(0)
    model = kind(torch.randn(V + 1, D))
    loss = objective("all_action", horizon=horizon, smoothing=smoothing).loss(model, batch())
    loss.backward()
    ours = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    terms = []
    for item, events in futures(horizon):
        scores = model.table[1:] @ model.table[item]
        scores = scores if model.item_bias() is None else scores + model.item_bias()[1:]
        many = scores.expand(len(events), -1)
        terms.append(F.cross_entropy(many, torch.tensor(events) - 1, label_smoothing=smoothing))
    plain = torch.stack(terms).mean()
    plain.backward()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    for a, p in zip(ours, model.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad, rtol=1e-4, atol=1e-6)


def test_a_horizon_of_one_event_is_the_next_item() -> None:
    model = Fixed(torch.randn(V + 1, D))
    next_item = objective("next_item").loss(model, batch()).item()
    assert objective("all_action", horizon=1).loss(model, batch()).item() == pytest.approx(next_item, rel=1e-6)


def test_drawn_events_are_of_the_future_and_all_alike_likely() -> None:
    torch.manual_seed(0)
    draws = torch.stack([drawn_from_future(TARGETS, 3) for _ in range(3000)])
    assert not draws[:, TARGETS == 0].any()
    for (_, events), column in zip(futures(3), draws[:, TARGETS > 0].T, strict=True):
        found = torch.bincount(column, minlength=V + 1) / len(column)
        expected = torch.bincount(torch.tensor(events), minlength=V + 1) / len(events)
        torch.testing.assert_close(found, expected, rtol=0.0, atol=0.04)


def test_padding_takes_no_part_in_a_mean() -> None:
    vectors = torch.randn(2, 5, 3)
    mean = mean_of_future(vectors, TARGETS, 4)
    torch.testing.assert_close(mean[1, 0], vectors[1, :2].mean(0))
    torch.testing.assert_close(mean[0, 1], vectors[0, 1:5].mean(0))
    assert torch.isfinite(mean).all()


def test_the_sampled_kind_tends_to_the_full_one() -> None:
    """Drawn targets and drawn negatives, many times: the mean is near the exact loss over all of both."""
    torch.manual_seed(0)
    model = Fixed(0.5 * torch.randn(V + 1, D))
    with torch.no_grad():
        exact = objective("all_action", horizon=3).loss(model, batch()).item()
        sampled = objective("sampled_all_action", horizon=3, negatives=300, sampling="uniform")
        mean = sum(sampled.loss(model, batch()).item() for _ in range(600)) / 600
    assert mean == pytest.approx(exact, rel=0.02)
