"""Weights of a mixture: found where mixing helps, and not where it does not."""

import pytest
import torch

from seqrec_cli.evaluation.portfolio import NOWHERE, Pools, find_mixture, pool_ndcg


def pools(*shares_RP: torch.Tensor) -> Pools:
    return Pools(tuple("abcd"[: len(shares_RP)]), torch.stack(shares_RP))


def noisy(signal: float, seed: int, requests: int = 400) -> torch.Tensor:
    shares_RP = torch.randn(requests, 60, generator=torch.Generator().manual_seed(seed))
    shares_RP[:, 0] += signal
    return shares_RP


def test_the_targets_rank_is_counted_with_ties_at_their_mean() -> None:
    mixed_RP = torch.tensor([[1.0, 0, 0], [0, 1, NOWHERE], [1, 1, 0]])
    expected = torch.tensor([1.0, 1 / torch.tensor(3.0).log2(), 1 / torch.tensor(2.5).log2()]).mean()
    assert pool_ndcg(mixed_RP) == pytest.approx(float(expected))


def test_models_that_err_apart_are_mixed() -> None:
    found = find_mixture(pools(noisy(1.5, 1), noisy(1.5, 2), noisy(-3.0, 3)))
    assert set(found.weights) == {"a", "b"}
    assert sum(found.weights.values()) == pytest.approx(1)
    assert found.ndcg > found.best_alone + 0.05


def test_the_best_alone_is_kept_where_the_others_know_nothing() -> None:
    found = find_mixture(pools(noisy(0.0, 1), noisy(2.5, 2), noisy(0.0, 3)))
    assert found.weights == {"b": 1.0}


def test_few_requests_choose_the_best_alone() -> None:
    assert find_mixture(pools(noisy(1.5, 1, 20), noisy(2.5, 2, 20))).weights == {"b": 1.0}
