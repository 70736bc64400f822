"""Who is drawn as a negative, and how often: distributions over items for losses that look at a few of them.

Draws come from torch's generator, so the seed of a step decides its negatives.

Legend: G groups that share negatives, K negatives, N targets of the batch, V items (counted from 1; 0 is padding).
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from seqrec_cli.config.objective import mixed_uniform


class Sampler(Protocol):
    """A distribution over items."""

    def draw(self, groups: int, negatives: int, targets_N: Tensor) -> Tensor:
        """Items [G, K], with replacement, beside the targets of the batch and on their device."""

    def log_expected(self, items: Tensor, *, draws: int) -> Tensor:
        """Log of how often each would be drawn in so many draws, fp32, of the items' shape."""


class UniformSampler:
    """Every item alike."""

    def __init__(self, num_items: int) -> None:
        self.num_items = num_items

    def draw(self, groups: int, negatives: int, targets_N: Tensor) -> Tensor:
        return torch.randint(1, self.num_items + 1, (groups, negatives), device=targets_N.device)

    def log_expected(self, items: Tensor, *, draws: int) -> Tensor:
        return torch.full(items.shape, math.log(draws / self.num_items), device=items.device)


class PopularitySampler:
    """In proportion to counts, int64 [V + 1]; an item that was never counted is never drawn.

    Bisection of the summed counts: whole numbers, so exact at any size, and log V steps a draw.
    """

    def __init__(self, counts_V: Tensor) -> None:
        self.counts_V, self.ends_V = counts_V, counts_V[1:].cumsum(0)
        self.total = int(self.ends_V[-1])

    def draw(self, groups: int, negatives: int, targets_N: Tensor) -> Tensor:
        events_GK = torch.randint(0, self.total, (groups, negatives), device=targets_N.device)
        return torch.searchsorted(self.ends_V, events_GK, right=True) + 1

    def log_expected(self, items: Tensor, *, draws: int) -> Tensor:
        return self.counts_V[items].clamp(min=1).float().log() + math.log(draws / self.total)


class InBatchSampler(PopularitySampler):
    """Targets of the batch: rows of the table that the step reads anyway.

    Over the batches of an epoch an item is among them as often as it is a target, so its training events (counted
    here, where Yi et al., RecSys 2019, estimate them on the way) give how often it is to be expected.
    """

    def draw(self, groups: int, negatives: int, targets_N: Tensor) -> Tensor:
        return targets_N[torch.randint(0, len(targets_N), (groups, negatives), device=targets_N.device)]


class MixedSampler:
    """Some from the batch's targets, the rest from all items alike, so that rare items are seen too.

    Mixed negative sampling (Yang et al., "Mixed Negative Sampling for Learning Two-tower Neural Networks in
    Recommendations", WWW 2020 companion): an item is expected as often as both parts together expect it.
    """

    def __init__(self, counts_V: Tensor, uniform_share: float) -> None:
        self.in_batch, self.uniform = InBatchSampler(counts_V), UniformSampler(len(counts_V) - 1)
        self.uniform_share = uniform_share

    def draw(self, groups: int, negatives: int, targets_N: Tensor) -> Tensor:
        from_all = mixed_uniform(negatives, self.uniform_share)
        parts = ((self.in_batch, negatives - from_all), (self.uniform, from_all))
        return torch.cat([sampler.draw(groups, count, targets_N) for sampler, count in parts], dim=1)

    def log_expected(self, items: Tensor, *, draws: int) -> Tensor:
        from_all = mixed_uniform(draws, self.uniform_share)
        of_batch = (draws - from_all) / self.in_batch.total
        return (self.in_batch.counts_V[items].float() * of_batch + from_all / self.uniform.num_items).log()


def build_sampler(sampling: str, counts_V: Tensor, uniform_share: float) -> Sampler | None:
    """The sampler of that name that keeps nothing; None for `unseen` and `hard`, whose items the loader draws."""
    if sampling in ("unseen", "hard"):
        return None
    if sampling == "mixed":
        return MixedSampler(counts_V, uniform_share)
    if sampling == "uniform":
        return UniformSampler(len(counts_V) - 1)
    return {"popularity": PopularitySampler, "in_batch": InBatchSampler}[sampling](counts_V)
