"""Search in sorted numbers, and hard search in long histories with it: the latest events that share a value with the
candidate (SIM, Pi et al. 2020, arXiv 2006.05639, section 3.2). Values are sorted once a history, so that a candidate
costs a bisection and not a scan.

Legend: B rows, L history events, W values an event, N = L x W, C candidates, K events found.
"""

import torch
from torch import Tensor

NONE = torch.iinfo(torch.int64).max
MOST_STEPS = 24  # of a program for rows of any length: rows of 16 million


def by_value(values_BLW: Tensor, mask_BL: Tensor) -> Tensor:
    """Keys value * L + position of all events' values, sorted [B, N]; an event without a value (0) and padding last."""
    L = values_BLW.shape[1]
    positions_L1 = torch.arange(L, device=values_BLW.device)[:, None]
    absent = (values_BLW == 0) | ~mask_BL[..., None]
    return (values_BLW * L + positions_L1).masked_fill(absent, NONE).flatten(1).sort(1).values


def latest(
    keys_BN: Tensor, values_BC: Tensor, firsts_BC: Tensor, *, ends_BC: Tensor, length: int, count: int
) -> tuple[Tensor, Tensor]:
    """Positions [B, C, K] of the latest `count` events with the candidate's value, the latest first, and which exist.

    Of the `length` events a candidate sees those from `firsts_BC` on and before `ends_BC`.
    """
    bases_BC = values_BC * length
    low_BC, high_BC = (first_at_least(keys_BN, bases_BC + edge) for edge in (firsts_BC, ends_BC))
    found_BCK = high_BC[..., None] - 1 - torch.arange(count, device=keys_BN.device)
    real_BCK = (found_BCK >= low_BC[..., None]) & (values_BC > 0)[..., None]
    keys_BCK = keys_BN.gather(1, found_BCK.clamp(min=0).flatten(1)).view_as(found_BCK)
    return (keys_BCK - bases_BC[..., None]).masked_fill(~real_BCK, 0), real_BCK


def first_at_least(sorted_N: Tensor, wanted: Tensor) -> Tensor:
    """The first positions of [N] numbers, or of [B, N] for [B, ...] wanted ones, that are no smaller: N where all are.

    `torch.searchsorted`; in a program that is exported, steps of a bisection, which all formats can express.
    """
    if not torch.compiler.is_exporting():
        return torch.searchsorted(sorted_N, wanted.contiguous())
    count = sorted_N.shape[-1]
    steps = count.bit_length() if isinstance(count, int) else MOST_STEPS
    smaller = torch.zeros_like(wanted)  # how many numbers are known to be
    for step in (1 << power for power in reversed(range(steps))):
        more = smaller + step
        positions = (more - 1).clamp(max=count - 1)
        numbers = (
            sorted_N[positions] if sorted_N.ndim == 1 else sorted_N.gather(1, positions.flatten(1)).view_as(wanted)
        )
        smaller = torch.where((more <= count) & (numbers < wanted), more, smaller)
    return smaller
