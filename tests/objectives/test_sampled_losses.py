"""The sampled softmax against a plain loop and against the full softmax it estimates."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_objectives import Fixed, window_batch

from seqrec_cli.config.objective.sampled_softmax import Config
from seqrec_cli.objectives import sampled_losses
from seqrec_cli.objectives.sampled_losses import loss_with_own_negatives, loss_with_shared_negatives, softmax
from seqrec_cli.objectives.sampled_softmax import Objective
from seqrec_cli.objectives.samplers import UniformSampler, build_sampler
from tests.shipped import shipped

V, D = 12, 5
COUNTS_V = torch.tensor([0, 5, 0, 1, 9, 2, 2, 7, 1, 4, 3, 8, 6])


def by_loop(queries, table, targets, negatives, log_expected, log_targets=None) -> torch.Tensor:
    """The loss's formula, one position at a time; differentiable."""
    losses = []
    for g in range(len(targets)):
        for m in range(targets.shape[1]):
            target = int(targets[g, m])
            if target == 0:
                continue
            own = queries[g, m] @ table[target]
            total = (own if log_targets is None else own - log_targets[g, m]).exp()
            for k, negative in enumerate(negatives[g].tolist()):
                if negative not in (0, target) or (negative == target and log_targets is not None):
                    total = total + (queries[g, m] @ table[negative]).exp() / math.exp(log_expected[g, k])
            losses.append(total.log() - own)
    return torch.stack(losses).mean()


def gathered(queries, table, targets, negatives, log_expected, log_targets=None) -> torch.Tensor:
    positives, vectors = F.embedding(targets, table, 0), F.embedding(negatives, table, 0)
    return loss_with_shared_negatives(
        softmax,
        queries,
        positives,
        vectors_GKD=vectors,
        targets_GM=targets,
        negatives_GK=negatives,
        log_expected_GK=log_expected,
        log_target_GM=log_targets,
    )


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
@pytest.mark.parametrize("corrected", [False, True], ids=["negatives", "all"])
def test_equals_a_plain_loop(monkeypatch, groups: int, rows: int, chunk: int, corrected: bool) -> None:
    monkeypatch.setattr(sampled_losses, "CHUNK", chunk)
    queries, table, *rest = inputs(groups, rows, 8)
    log_targets = torch.linspace(-2, 1, groups * rows).view(groups, rows) if corrected else None
    results = []
    for loss_of in (gathered, by_loop):
        q, w = queries.clone().requires_grad_(), table.clone().requires_grad_()
        loss = loss_of(q, w, *rest, log_targets)
        (3 * loss).backward()
        results.append((loss.detach(), q.grad, w.grad))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-6)


def test_all_items_once_are_the_full_softmax() -> None:
    queries, table, targets, _, _ = inputs(1, 17, 8)
    negatives = torch.arange(1, V + 1)[None]
    loss = gathered(
        queries, table, targets, negatives, UniformSampler(V).log_expected(negatives, draws=negatives.shape[1])
    )
    assert loss.item() == pytest.approx(F.cross_entropy(queries[0] @ table[1:].T, targets[0] - 1).item(), rel=1e-5)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "gathered"])
@pytest.mark.parametrize("chunk", [1, 40, 10**6])
@pytest.mark.parametrize("corrected", [False, True], ids=["negatives", "all"])
def test_negatives_of_each_position_equal_a_plain_loop(monkeypatch, chunk: int, whole: bool, corrected: bool) -> None:
    """Positions as groups of one, negatives twice and absent ones among them."""
    monkeypatch.setattr(sampled_losses, "CHUNK", chunk)
    queries, table, targets, negatives, log_expected = inputs(9, 1, 8)
    targets, negatives = targets.clamp(min=1), negatives.clone()
    negatives[:, 1], negatives[:, 2] = negatives[:, 0], 0
    log_targets = torch.linspace(-2, 1, 9)[:, None] if corrected else None

    def ours(q, w, *_: Any) -> torch.Tensor:
        off = log_expected.masked_fill(negatives == 0, torch.inf)
        return loss_with_own_negatives(
            softmax,
            q[:, 0],
            w[targets[:, 0]],
            table_XD=w,
            rows_NK=negatives,
            out_NK=None if corrected else negatives == targets,
            log_expected_NK=off,
            log_target_N=None if log_targets is None else log_targets[:, 0],
            whole=whole,
        )

    def plain(q, w, *_: Any) -> torch.Tensor:
        return by_loop(q, w, targets, negatives, log_expected, log_targets)

    results = []
    for loss_of in (ours, plain):
        q, w = queries.clone().requires_grad_(), table.clone().requires_grad_()
        loss = loss_of(q, w)
        (3 * loss).backward()
        results.append((loss.detach(), q.grad, w.grad))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sampling", ["uniform", "popularity", "in_batch", "mixed"])
def test_many_negatives_tend_to_the_full_softmax(sampling: str) -> None:
    """Two hundred thousand draws with replacement: only the log-q correction brings the loss there."""
    queries, table, targets, _, _ = inputs(1, 17, 8)
    counts = COUNTS_V.clamp(min=1)
    counts[0] = 0
    sampler = build_sampler(sampling, counts, 0.3)
    assert sampler is not None
    torch.manual_seed(0)
    of_all_batches = torch.arange(V + 1).repeat_interleave(counts)
    negatives = sampler.draw(1, 200_000, of_all_batches)
    loss = gathered(queries, table, targets, negatives, sampler.log_expected(negatives, draws=200_000)).item()
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


def objective(**changes: Any) -> Objective:
    plain = shipped("objective", "sampled_softmax") | {"uniform_share": 0.5, "log_q": "negatives"}
    plain |= {"negatives": 6, "shared": "batch", "sampling": "uniform"}
    built = Objective(Config(**(plain | changes)))  # type: ignore[arg-type]
    built.prepare(COUNTS_V)
    return built


@pytest.mark.parametrize("sampling", ["uniform", "popularity", "in_batch", "mixed"])
@pytest.mark.parametrize("shared", ["batch", "sequence", "position"])
@pytest.mark.parametrize("log_q", ["none", "negatives", "all"])
def test_the_objective_draws_and_scores(log_q: str, shared: str, sampling: str) -> None:
    """Without log-q: the target's share among scores as they are, a negative that is the target left out."""
    torch.manual_seed(1)
    table, batch = torch.randn(V + 1, D), window_batch()
    built = objective(shared=shared, sampling=sampling, log_q=log_q)

    def seeded(seed: int) -> float:
        torch.manual_seed(seed)
        return built.loss(Fixed(table), batch).item()

    loss = seeded(5)
    assert loss == seeded(5) != seeded(6)

    torch.manual_seed(5)
    sampler = build_sampler(sampling, COUNTS_V, 0.5)
    assert sampler is not None
    assert batch.targets_BL is not None
    real = batch.targets_BL > 0
    queries, targets = table[batch.items_BL], batch.targets_BL
    of_batch = targets[real]
    if shared == "batch":
        queries, targets = queries[real][None], of_batch[None]
    elif shared == "position":
        queries, targets = queries[real][:, None], of_batch[:, None]
    negatives = sampler.draw(real.numel() if shared == "position" else len(targets), 6, of_batch)
    negatives = negatives[real.flatten()] if shared == "position" else negatives
    expected = sampler.log_expected(negatives, draws=6) if log_q != "none" else torch.zeros(negatives.shape)
    of_targets = sampler.log_expected(targets, draws=6) if log_q == "all" else None
    assert loss == pytest.approx(by_loop(queries, table, targets, negatives, expected, of_targets).item())


@pytest.mark.parametrize("whole", [None, True, False], ids=["shared", "whole", "gathered"])
def test_with_the_target_corrected_two_negatives_have_the_full_softmax_s_minimum(whole: bool | None) -> None:
    """At scores log p the mean gradient over targets drawn by p and negatives drawn by popularity is nothing."""
    torch.manual_seed(0)
    p_V, sampler = torch.rand(V).softmax(0), build_sampler("popularity", COUNTS_V.clamp(min=1), 0.5)
    assert sampler is not None
    expected_V = sampler.log_expected(torch.arange(1, V + 1), draws=2)
    drawn = torch.cartesian_prod(*[torch.arange(1, V + 1)] * 3)
    targets, negatives, ones = drawn[:, :1], drawn[:, 1:], torch.ones(len(drawn), 1)
    chances = p_V[targets - 1] * (expected_V[negatives - 1].exp() / 2).prod(1, keepdim=True)

    def mean_gradient(log_targets: torch.Tensor | None) -> torch.Tensor:
        table = torch.cat([torch.zeros(1), p_V.log()])[:, None].requires_grad_()
        log_expected = expected_V[negatives - 1]
        if whole is None:
            loss_with_shared_negatives(
                softmax,
                ones[:, None],
                table[targets],
                vectors_GKD=table[negatives],
                targets_GM=targets,
                negatives_GK=negatives,
                log_expected_GK=log_expected,
                log_target_GM=log_targets,
                weights_GM=chances,
            ).backward()
        else:
            loss_with_own_negatives(
                softmax,
                ones,
                table[targets[:, 0]],
                table_XD=table,
                rows_NK=negatives,
                out_NK=negatives == targets if log_targets is None else None,
                log_expected_NK=log_expected,
                log_target_N=None if log_targets is None else log_targets[:, 0],
                whole=whole,
                weights_N=chances[:, 0],
            ).backward()
        assert table.grad is not None
        return table.grad[1:] * len(drawn)

    assert mean_gradient(expected_V[targets - 1]).abs().max() < 1e-6
    assert mean_gradient(None).abs().max() > 1e-3


def test_log_q_that_is_not_said_is_what_the_sampler_can() -> None:
    for sampling, found in {"unseen": "none", "hard": "none", "uniform": "all", "cross_batch": "all"}.items():
        plain = shipped("objective", "sampled_softmax") | {"shared": "sequence", "sampling": sampling}
        assert Config(**plain).log_q == found


def test_unmet_negatives_cannot_stand_for_the_corpus_but_for_themselves() -> None:
    with pytest.raises(ValueError, match=r"log_q=negatives cannot take objective\.sampling=unseen"):
        objective(sampling="unseen", shared="sequence")
    torch.manual_seed(1)
    table, batch = torch.randn(V + 1, D), window_batch()
    negatives = torch.tensor([[1, 2, 3, 4, 5, 0]]).expand(len(batch), 1, -1)  # 0: none
    loss = objective(sampling="unseen", shared="sequence", log_q="none").loss(
        Fixed(table), replace(batch, negatives_BLK=negatives)
    )
    queries, none = table[batch.items_BL], torch.zeros(negatives[:, 0, :5].shape)
    assert loss.item() == pytest.approx(by_loop(queries, table, batch.targets_BL, negatives[:, 0, :5], none).item())
