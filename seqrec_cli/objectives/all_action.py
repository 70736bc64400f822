"""All of the next events at every position, softmax over the whole corpus: the dense all-action loss.

PinnerFormer (Pancha et al. 2022, arXiv 2205.04507, section 3.5.4) takes one event of the next days at random for each
of some random positions. Here a future is the next `horizon` events of the window, every position has one, and all
its events are targets, equally: the mean of what a random one would give, at the cost of one softmax. With a `discount`
below 1 each further event counts so much of the one before it, as in a mean by g^0, g^1, g^2, ... (of the events that
there are). One state asks for all of them; `multi_step.py` has a head for each.

Legend: B rows, L history events, N training targets, D width, V items.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.config.objective.all_action import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import CorpusSoftmaxObjective, at_targets
from seqrec_cli.objectives.losses import mean_score_difference


class Objective(CorpusSoftmaxObjective):
    """Mean over positions of the mean cross-entropy of their targets."""

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.horizon, self.discount = cfg.horizon, cfg.discount

    def target_loss(self, model: Recommender, batch: Batch) -> Tensor:
        encoder, queries_ND, targets_N, positions_N, _ = at_targets(model, batch, window=self.window)
        assert batch.targets_BL is not None
        next_only = self.cross_entropy(encoder, queries_ND, targets_N)
        vectors, bias_V = [encoder.item_vectors(batch.targets_BL)], encoder.item_bias()
        if bias_V is not None:
            vectors.append(F.embedding(batch.targets_BL, bias_V[:, None]))
        # The normaliser is the same for all targets of a position: from the next event to the mean of several, the
        # loss grows by the difference of their scores.
        differences = []
        for next_BLD in vectors:
            if self.discount < 1:
                mean_BLD = discounted_mean(next_BLD, batch.targets_BL, horizon=self.horizon, discount=self.discount)
            else:
                mean_BLD = mean_of_future(next_BLD, batch.targets_BL, self.horizon)
            differences.append((next_BLD.float() - mean_BLD).flatten(0, 1).index_select(0, positions_N))
        return next_only + (1 - self.smoothing) * mean_score_difference(queries_ND, *differences)


def future_bounds(targets_BL: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """For each position of `targets_BL` (0 where there is none), the positions [B, L] of its first target and behind
    its last.

    A future is the next `horizon` events, fewer at a window's end.
    """
    positions_L = torch.arange(targets_BL.shape[1], device=targets_BL.device)
    lengths_B1 = (targets_BL > 0).sum(1, keepdim=True)
    begins_BL = positions_L.expand_as(targets_BL)
    return begins_BL, torch.minimum(begins_BL + horizon, lengths_B1)


def mean_of_future(vectors_BLD: Tensor, targets_BL: Tensor, horizon: int) -> Tensor:
    """The mean vector [B, L, D] of each position's future, in fp32, by differences of running sums."""
    begins_BL, ends_BL = future_bounds(targets_BL, horizon)
    real_BL1 = (targets_BL > 0)[..., None]
    sums_BLD = F.pad((vectors_BLD.float() * real_BL1).cumsum(1), (0, 0, 1, 0))
    future_BLD = _at(sums_BLD, torch.maximum(ends_BL, begins_BL)) - _at(sums_BLD, begins_BL)
    return future_BLD / (ends_BL - begins_BL).clamp(min=1)[..., None]


def discounted_mean(vectors_BLD: Tensor, targets_BL: Tensor, *, horizon: int, discount: float) -> Tensor:
    """The mean vector [B, L, D] of each position's future, in fp32, of which event j counts discount^j."""
    real_BL1 = (targets_BL > 0)[..., None].float()
    sums_BLD, weights_BL1 = torch.zeros_like(vectors_BLD, dtype=torch.float32), torch.zeros_like(real_BL1)
    for step in range(min(horizon, targets_BL.shape[1])):
        ahead_BL1 = F.pad(real_BL1[:, step:] * discount**step, (0, 0, 0, step))
        ahead_BLD = F.pad(vectors_BLD[:, step:].float(), (0, 0, 0, step)) if step else vectors_BLD.float()
        sums_BLD = sums_BLD + ahead_BLD * ahead_BL1
        weights_BL1 = weights_BL1 + ahead_BL1
    return sums_BLD / weights_BL1.clamp(min=torch.finfo(torch.float32).tiny)


def drawn_from_future(targets_BL: Tensor, horizon: int) -> Tensor:
    """One event [B, L] of each position's future, all alike likely; 0 where there is none."""
    begins_BL, ends_BL = future_bounds(targets_BL, horizon)
    counts_BL = (ends_BL - begins_BL).clamp(min=1)
    steps_BL = (torch.rand(targets_BL.shape, device=targets_BL.device) * counts_BL).long().clamp(max=counts_BL - 1)
    return targets_BL.gather(1, begins_BL + steps_BL)


def _at(vectors_BLD: Tensor, positions_BL: Tensor) -> Tensor:
    return vectors_BLD.gather(1, positions_BL[..., None].expand(-1, -1, vectors_BLD.shape[2]))
