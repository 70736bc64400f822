"""The linear recurrence in torch's operators, L up to a fixed length.

Legend: L steps, B rows, N complex numbers of a state.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def reference(x_LBN: Tensor, decay_N: Tensor) -> Tensor:
    pairs = torch.view_as_real(x_LBN), torch.view_as_real(decay_N)
    return torch.view_as_complex(scan_of_pairs(*pairs, longest=len(x_LBN)))


def scan_of_pairs(x_LBN2: Tensor, decay_N2: Tensor, longest: int) -> Tensor:
    """All states as pairs (real, imaginary), by doubling how far each state looks back; loops have a fixed length."""
    run = 1
    while run < longest:
        earlier_LBN2 = nn.functional.pad(x_LBN2, (0, 0, 0, 0, 0, 0, run, 0))[: x_LBN2.shape[0]]
        x_LBN2 = x_LBN2 + _times(earlier_LBN2, decay_N2)
        decay_N2, run = _times(decay_N2, decay_N2), 2 * run
    return x_LBN2


def _times(a: Tensor, b: Tensor) -> Tensor:
    real, imaginary = a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1], a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0]
    return torch.stack([real, imaginary], dim=-1)


def examples(dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    for L, N in ((1, 1), (7, 5), (20, 3)):
        yield torch.randn(L, 3, N, dtype=dtype), torch.polar(torch.rand(N), torch.rand(N) * 3).to(dtype)
