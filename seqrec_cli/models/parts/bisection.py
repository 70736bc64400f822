"""Where numbers would stand in sorted ones.

Legend: B rows, N sorted numbers.
"""

import torch
from torch import Tensor

MOST_STEPS = 24  # of a program for rows of any length: rows of 16 million


def first_at_least(sorted_N: Tensor, wanted: Tensor) -> Tensor:
    """The first places of [N] numbers, or of [B, N] for [B, ...] wanted ones, that are no smaller: N where all are.

    `torch.searchsorted`; in a program that is exported, steps of a bisection, which all formats can express.
    """
    if not torch.compiler.is_exporting():
        return torch.searchsorted(sorted_N, wanted.contiguous())
    count = sorted_N.shape[-1]
    steps = count.bit_length() if isinstance(count, int) else MOST_STEPS
    smaller = torch.zeros_like(wanted)  # how many numbers are known to be
    for step in (1 << power for power in reversed(range(steps))):
        more = smaller + step
        places = (more - 1).clamp(max=count - 1)
        numbers = sorted_N[places] if sorted_N.ndim == 1 else sorted_N.gather(1, places.flatten(1)).view_as(wanted)
        smaller = torch.where((more <= count) & (numbers < wanted), more, smaller)
    return smaller
