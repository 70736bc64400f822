"""Sessions: a history cut wherever two events are further apart than a gap (DSIN, Feng et al. 2019, arXiv 1905.06482,
section 3.1).

Legend: B rows, L history events, K sessions, S events of a session.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Sessions(NamedTuple):
    """Where the events of each session stand in their row; sessions and events in the order of time, padded at the
    end."""

    places_BKS: Tensor  # int64, 0 where there is no event
    real_BKS: Tensor


def cut_sessions(times_BL: Tensor, mask_BL: Tensor, gap: int, most: int, longest: int) -> Sessions:
    """Sessions of events at most `gap` seconds apart: the latest `most`, and of each the latest `longest` events."""
    B, L = times_BL.shape
    places_L = torch.arange(L, device=times_BL.device)
    places_BL = places_L.expand(B, L)
    later_BL = times_BL - times_BL[:, (places_L - 1).clamp(min=0)] > gap
    session_BL = (later_BL & mask_BL).cumsum(1)
    # Not by `cummax`, which ONNX does not know.
    first_BL = torch.full_like(places_BL, L).scatter_reduce(1, session_BL, places_BL, "amin").gather(1, session_BL)
    real_BL = places_BL.where(mask_BL, -1)
    last_BL = torch.full_like(places_BL, -1).scatter_reduce(1, session_BL, real_BL, "amax").gather(1, session_BL)
    session_BL = session_BL - (session_BL.amax(1, keepdim=True) + 1 - most).clamp(min=0)
    within_BL = places_BL - torch.maximum(first_BL, last_BL - longest + 1)
    kept_BL = mask_BL & (session_BL >= 0) & (within_BL >= 0)
    slots_BL = (session_BL * longest + within_BL).where(kept_BL, most * longest)  # the last slot takes what is dropped
    empty = torch.full((B, most * longest + 1), -1, dtype=torch.int64, device=times_BL.device)
    places_BKS = empty.scatter(1, slots_BL, places_BL)[:, :-1].unflatten(1, (most, longest))
    return Sessions(places_BKS.clamp(min=0), places_BKS >= 0)
