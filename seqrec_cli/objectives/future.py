"""The events that follow a position: an objective's several targets.

Legend: B rows, L history events, N training targets, D width.
"""

import torch
from torch import Tensor


def spans(targets_BL: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """For each position of `targets_BL` (0 where there is none), the places [B, L] its future begins and ends before.

    A future is the next `horizon` events, fewer at a window's end.
    """
    places_L = torch.arange(targets_BL.shape[1], device=targets_BL.device)
    lengths_B1 = (targets_BL > 0).sum(1, keepdim=True)
    begins_BL = places_L.expand_as(targets_BL)
    return begins_BL, torch.minimum(begins_BL + horizon, lengths_B1)


def mean_ahead(vectors_BLD: Tensor, targets_BL: Tensor, horizon: int) -> Tensor:
    """The mean vector [B, L, D] of each position's future, in fp32, by differences of running sums."""
    begins_BL, ends_BL = spans(targets_BL, horizon)
    real_BL1 = (targets_BL > 0)[..., None]
    sums_BLD = torch.nn.functional.pad((vectors_BLD.float() * real_BL1).cumsum(1), (0, 0, 1, 0))
    ahead_BLD = _at(sums_BLD, torch.maximum(ends_BL, begins_BL)) - _at(sums_BLD, begins_BL)
    return ahead_BLD / (ends_BL - begins_BL).clamp(min=1)[..., None]


def drawn_ahead(targets_BL: Tensor, horizon: int) -> Tensor:
    """One event [B, L] of each position's future, all alike likely; 0 where there is none."""
    begins_BL, ends_BL = spans(targets_BL, horizon)
    counts_BL = (ends_BL - begins_BL).clamp(min=1)
    steps_BL = (torch.rand(targets_BL.shape, device=targets_BL.device) * counts_BL).long().clamp(max=counts_BL - 1)
    return targets_BL.gather(1, begins_BL + steps_BL)


def _at(vectors_BLD: Tensor, places_BL: Tensor) -> Tensor:
    return vectors_BLD.gather(1, places_BL[..., None].expand(-1, -1, vectors_BLD.shape[2]))
