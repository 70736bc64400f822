"""Softmax over the target and sampled negatives: who is drawn, and the loss.

Legend: G groups that share negatives (1, or a sequence each), M positions of a group, g and m those of one chunk,
K negatives, D width, V items (counted from 1; 0 is padding).
"""

import math
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqrec_cli.objectives.losses import product_dtype

CHUNK = 2**20  # scores of one chunk: the passes over them stay in cache


class Sampler(Protocol):
    """A distribution over items, drawn from with torch's generator: the seed of a step decides its negatives."""

    def draw(self, groups: int, negatives: int, device: torch.device) -> Tensor:
        """Items [G, K], with replacement."""

    def log_expected(self, items_GK: Tensor) -> Tensor:
        """Log of how often each would be drawn in K draws, fp32 [G, K]."""


class UniformSampler:
    """Every item alike."""

    def __init__(self, num_items: int) -> None:
        self.num_items = num_items

    def draw(self, groups: int, negatives: int, device: torch.device) -> Tensor:
        return torch.randint(1, self.num_items + 1, (groups, negatives), device=device)

    def log_expected(self, items_GK: Tensor) -> Tensor:
        return torch.full(items_GK.shape, math.log(items_GK.shape[1] / self.num_items), device=items_GK.device)


class PopularitySampler:
    """In proportion to counts, int64 [V + 1]; an item that was never counted is never drawn.

    Bisection of the summed counts: whole numbers, so exact at any size, and log V steps a draw.
    """

    def __init__(self, counts_V: Tensor) -> None:
        self.counts_V, self.ends_V = counts_V, counts_V[1:].cumsum(0)
        self.total = int(self.ends_V[-1])

    def draw(self, groups: int, negatives: int, device: torch.device) -> Tensor:
        events_GK = torch.randint(0, self.total, (groups, negatives), device=device)
        return torch.searchsorted(self.ends_V, events_GK, right=True) + 1

    def log_expected(self, items_GK: Tensor) -> Tensor:
        return self.counts_V[items_GK].float().log() + math.log(items_GK.shape[1] / self.total)


class _SampledCrossEntropy(torch.autograd.Function):
    """Forward runs in chunks and forms the gradient in the same pass, as the softmax over the corpus does."""

    @staticmethod
    def forward(
        ctx: Any,
        queries_GMD: Tensor,
        positives_GMD: Tensor,
        vectors_GKD: Tensor,
        targets_GM: Tensor,
        negatives_GK: Tensor,
        log_expected_GK: Tensor,
    ) -> Tensor:
        device, dtype = queries_GMD.device, product_dtype(queries_GMD.device)
        keys_GKD, real_GM = vectors_GKD.to(dtype), targets_GM > 0
        targets_GM1, negatives_G1K = targets_GM[:, :, None].int(), negatives_GK[:, None].int()
        grad_queries_GMD, grad_positives_GMD = torch.empty_like(queries_GMD), torch.empty_like(positives_GMD)
        grad_vectors_GKD = torch.zeros(vectors_GKD.shape, device=device)
        share = 1 / real_GM.sum().clamp(min=1)  # of each position in the mean
        loss = torch.zeros((), device=device)
        with torch.autocast(device.type, enabled=False):
            for g, m in chunks(len(targets_GM), targets_GM.shape[1], negatives_GK.shape[1]):
                queries_gmD, positives_gmD = queries_GMD[g, m].float(), positives_GMD[g, m].float()
                products_gmD = queries_GMD[g, m].to(dtype)
                scores_gmK = products_gmD @ keys_GKD[g].mT - log_expected_GK[g, None]  # bf16 - fp32: fp32
                scores_gmK.masked_fill_(targets_GM1[g, m] == negatives_G1K[g], -torch.inf)
                # The target is there with certainty: its expected count is 1, and nothing is taken off.
                scores_gmC = torch.cat([(queries_gmD * positives_gmD).sum(-1, keepdim=True), scores_gmK], dim=-1)
                torch.softmax(scores_gmC, dim=-1, out=scores_gmC)
                own_gm1 = scores_gmC[..., :1]
                loss -= (own_gm1[..., 0].clamp(min=torch.finfo(torch.float32).tiny).log() * real_GM[g, m]).sum()
                weight_gm1 = real_GM[g, m, None] * share
                away_gm1 = (own_gm1 - 1) * weight_gm1
                others_gmK = (scores_gmC[..., 1:] * weight_gm1).to(dtype)
                grad_positives_GMD[g, m] = away_gm1 * queries_gmD
                grad_queries_GMD[g, m] = others_gmK @ keys_GKD[g] + away_gm1 * positives_gmD
                grad_vectors_GKD[g] += others_gmK.mT @ products_gmD
        ctx.save_for_backward(grad_queries_GMD, grad_positives_GMD, grad_vectors_GKD.to(vectors_GKD.dtype))
        return loss * share

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (*(gradient.mul_(grads[0].to(gradient.dtype)) for gradient in ctx.saved_tensors), None, None, None)


def chunks(groups: int, rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Whole groups while they fit, else some rows of one."""
    size = max(1, CHUNK // max(1, rows * columns))
    height = rows if size > 1 else max(1, min(rows, CHUNK // columns))
    for group in range(0, groups, size):
        for row in range(0, rows, max(1, height)):
            yield slice(group, group + size), slice(row, row + height)


def sampled_cross_entropy(
    queries_GMD: Tensor,
    positives_GMD: Tensor,
    vectors_GKD: Tensor,
    targets_GM: Tensor,
    negatives_GK: Tensor,
    log_expected_GK: Tensor,
) -> Tensor:
    """Mean over real targets (> 0) of -s(target) + log(exp s(target) + sum_k exp(s(negative_k)) / expected count_k).

    The sum over negatives is an unbiased estimate of the full softmax's (importance sampling: Bengio & Senecal,
    IEEE TNN 19(4), 2008), so the loss tends to the full softmax as K grows; a negative that equals the
    target of a position is left out there. Products run in autocast's format, the softmax and the loss in fp32.
    """
    loss: Tensor = _SampledCrossEntropy.apply(
        queries_GMD, positives_GMD, vectors_GKD, targets_GM, negatives_GK, log_expected_GK
    )
    return loss
