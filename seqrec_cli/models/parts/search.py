"""Hard search in long histories: the latest events that share a value with the candidate (SIM, Pi et al. 2020, arXiv
2006.05639, section 3.2), found in an order made once a history, so that a candidate costs a bisection and not a scan.

Legend: B rows, L history events, W values an event, N = L x W, C candidates, K events found.
"""

import torch
from torch import Tensor

from seqrec_cli.models.parts.bisection import first_at_least

NONE = torch.iinfo(torch.int64).max


def by_value(values_BLW: Tensor, mask_BL: Tensor) -> Tensor:
    """Keys value * L + place of all events' values, sorted [B, N]; an event without a value (0) and padding last."""
    L = values_BLW.shape[1]
    places_L1 = torch.arange(L, device=values_BLW.device)[:, None]
    absent = (values_BLW == 0) | ~mask_BL[..., None]
    return (values_BLW * L + places_L1).masked_fill(absent, NONE).flatten(1).sort(1).values


def latest(
    keys_BN: Tensor, values_BC: Tensor, firsts_BC: Tensor, ends_BC: Tensor, length: int, count: int
) -> tuple[Tensor, Tensor]:
    """Places [B, C, K] of the latest `count` events with the candidate's value, the latest first, and which are real.

    Of the `length` events a candidate sees those from `firsts_BC` on and before `ends_BC`.
    """
    bases_BC = values_BC * length
    low_BC, high_BC = (first_at_least(keys_BN, bases_BC + edge) for edge in (firsts_BC, ends_BC))
    found_BCK = high_BC[..., None] - 1 - torch.arange(count, device=keys_BN.device)
    real_BCK = (found_BCK >= low_BC[..., None]) & (values_BC > 0)[..., None]
    keys_BCK = keys_BN.gather(1, found_BCK.clamp(min=0).flatten(1)).view_as(found_BCK)
    return (keys_BCK - bases_BC[..., None]).masked_fill(~real_BCK, 0), real_BCK
