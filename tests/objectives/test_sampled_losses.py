"""The sampled softmax against a plain loop and against the full softmax it estimates; who is drawn, and how often."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_objectives import Fixed, window_batch

from seqrec_cli.objectives import sampled_losses
from seqrec_cli.objectives.sampled_losses import PopularitySampler, UniformSampler, sampled_cross_entropy
from seqrec_cli.objectives.sampled_softmax import Config, Objective

V, D = 12, 5
COUNTS_V = torch.tensor([0, 5, 0, 1, 9, 2, 2, 7, 1, 4, 3, 8, 6])


def by_loop(queries, table, targets, negatives, log_expected) -> torch.Tensor:
    """The loss's formula, one position at a time; differentiable."""
    losses = []
    for g in range(len(targets)):
        for m in range(targets.shape[1]):
            target = int(targets[g, m])
            if target == 0:
                continue
            own = queries[g, m] @ table[target]
            total = own.exp()
            for k, negative in enumerate(negatives[g].tolist()):
                if negative != target:
                    total = total + (queries[g, m] @ table[negative]).exp() / math.exp(log_expected[g, k])
            losses.append(total.log() - own)
    return torch.stack(losses).mean()


def gathered(queries, table, targets, negatives, log_expected) -> torch.Tensor:
    positives, vectors = F.embedding(targets, table, 0), F.embedding(negatives, table, 0)
    return sampled_cross_entropy(queries, positives, vectors, targets, negatives, log_expected)


def inputs(groups: int, rows: int, count: int) -> tuple[torch.Tensor, ...]:
    """Random queries and table; targets with padding where groups are sequences; some negatives equal a target."""
    generator = torch.Generator().manual_seed(groups)
    queries = torch.randn(groups, rows, D, generator=generator)
    table = torch.randn(V + 1, D, generator=generator)
    table[0] = 0.0
    targets = torch.randint(1, V + 1, (groups, rows), generator=generator)
    if groups > 1:
        targets[0, 2:] = 0
    negatives = torch.randint(1, V + 1, (groups, count), generator=generator)
    assert (targets[:, :, None] == negatives[:, None]).any()
    return queries, table, targets, negatives, torch.rand(groups, count, generator=generator) * 3 - 2


@pytest.mark.parametrize(("groups", "rows"), [(1, 17), (4, 6)], ids=["batch", "sequence"])
@pytest.mark.parametrize("chunk", [1, 40, 10**6])
def test_equals_a_plain_loop(monkeypatch, groups: int, rows: int, chunk: int) -> None:
    monkeypatch.setattr(sampled_losses, "CHUNK", chunk)
    queries, table, *rest = inputs(groups, rows, 8)
    results = []
    for loss_of in (gathered, by_loop):
        q, w = queries.clone().requires_grad_(), table.clone().requires_grad_()
        loss = loss_of(q, w, *rest)
        (3 * loss).backward()
        results.append((loss.detach(), q.grad, w.grad))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-6)


def test_all_items_once_are_the_full_softmax() -> None:
    queries, table, targets, _, _ = inputs(1, 17, 8)
    negatives = torch.arange(1, V + 1)[None]
    loss = gathered(queries, table, targets, negatives, UniformSampler(V).log_expected(negatives))
    assert loss.item() == pytest.approx(F.cross_entropy(queries[0] @ table[1:].T, targets[0] - 1).item(), rel=1e-5)


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
def test_many_negatives_tend_to_the_full_softmax(sampling: str) -> None:
    """Two hundred thousand draws with replacement: only the log-q correction brings the loss there."""
    queries, table, targets, _, _ = inputs(1, 17, 8)
    counts = COUNTS_V.clamp(min=1)
    sampler = UniformSampler(V) if sampling == "uniform" else PopularitySampler(counts)
    torch.manual_seed(0)
    negatives = sampler.draw(1, 200_000, torch.device("cpu"))
    loss = gathered(queries, table, targets, negatives, sampler.log_expected(negatives)).item()
    assert loss == pytest.approx(F.cross_entropy(queries[0] @ table[1:].T, targets[0] - 1).item(), rel=0.01)


def test_accidental_hits_alone_cost_nothing() -> None:
    queries, table = torch.randn(1, 3, D), torch.randn(V + 1, D)
    targets, negatives = torch.full((1, 3), 4), torch.full((1, 6), 4)
    assert gathered(queries, table, targets, negatives, torch.zeros(1, 6)).item() == pytest.approx(0.0, abs=1e-6)


def test_padding_alone_costs_nothing_and_has_no_gradient() -> None:
    queries, table = torch.randn(2, 3, D, requires_grad=True), torch.randn(V + 1, D, requires_grad=True)
    negatives = torch.randint(1, V + 1, (2, 6))
    loss = gathered(queries, table, torch.zeros(2, 3, dtype=torch.int64), negatives, torch.zeros(2, 6))
    loss.backward()
    assert loss.item() == 0.0
    assert not queries.grad.any()
    assert not table.grad.any()


def test_bf16_products_stay_close() -> None:
    queries, table, *rest = inputs(1, 60, 40)
    exact = gathered(queries, table, *rest)
    with torch.autocast("cpu", torch.bfloat16):
        near = gathered(queries, table, *rest)
    assert near.dtype == torch.float32
    assert near.item() != exact.item()
    assert near.item() == pytest.approx(exact.item(), abs=0.02)


def test_popular_items_are_drawn_by_their_counts() -> None:
    torch.manual_seed(0)
    sampler = PopularitySampler(COUNTS_V)
    items = sampler.draw(3, 100_000, torch.device("cpu"))
    assert items.shape == (3, 100_000)
    found_V, expected_V = torch.bincount(items.flatten(), minlength=V + 1), COUNTS_V / COUNTS_V.sum() * items.numel()
    assert found_V[0] == found_V[2] == 0
    drawn = expected_V > 0
    chi2 = ((found_V - expected_V)[drawn] ** 2 / expected_V[drawn]).sum().item()
    assert chi2 < 29.6  # 10 degrees of freedom, 0.1 %
    expected_in_a_group = sampler.log_expected(items).exp()[0, :50]
    torch.testing.assert_close(expected_in_a_group, (expected_V / 3)[items[0, :50]], rtol=1e-4, atol=0.0)


def test_uniform_draws_reach_every_item_and_no_padding() -> None:
    torch.manual_seed(0)
    items = UniformSampler(V).draw(1, 12_000, torch.device("cpu"))
    found_V = torch.bincount(items.flatten(), minlength=V + 1)
    assert found_V[0] == 0
    assert ((found_V[1:] - 1000) ** 2 / 1000).sum().item() < 31.3  # 11 degrees of freedom, 0.1 %
    assert UniformSampler(V).log_expected(items)[0, 0].item() == pytest.approx(math.log(1000))


def objective(**changes: Any) -> Objective:
    plain = {"name": "sampled_softmax", "window": "last", "stride": None}
    plain |= {"negatives": 6, "shared": "batch", "sampling": "uniform"}
    built = Objective(Config(**(plain | changes)))  # type: ignore[arg-type]
    built.prepare(COUNTS_V)
    return built


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
@pytest.mark.parametrize("shared", ["batch", "sequence"])
def test_the_objective_draws_and_scores(shared: str, sampling: str) -> None:
    torch.manual_seed(1)
    table, batch = torch.randn(V + 1, D), window_batch()
    built = objective(shared=shared, sampling=sampling)

    def seeded(seed: int) -> float:
        torch.manual_seed(seed)
        return built.loss(Fixed(table), batch).item()

    loss = seeded(5)
    assert loss == seeded(5) != seeded(6)

    torch.manual_seed(5)
    sampler = UniformSampler(V) if sampling == "uniform" else PopularitySampler(COUNTS_V)
    assert batch.targets_BL is not None
    real = batch.targets_BL > 0
    queries, targets = table[batch.items_BL], batch.targets_BL
    if shared == "batch":
        queries, targets = queries[real][None], targets[real][None]
    negatives = sampler.draw(len(targets), 6, torch.device("cpu"))
    assert loss == pytest.approx(by_loop(queries, table, targets, negatives, sampler.log_expected(negatives)).item())
