"""DIN's activation unit (Zhou et al. 2018, arXiv 1706.06978, figure 2) in torch's operators: a perceptron with one or
two hidden layers over every pair of an event h and a candidate c.

    x = h w_event + (h * c) w_product + shift_c     a = act(x)     [y = a w_second + bias     a = act(y)]     a . weight

The first layer reads [h; c; h - c; h * c], in the form of `kernels/pair_linear`. The activation, by its `kind`: PRELU,
x or slope x; SIGMOID; DICE, x (slope + (1 - slope) sigmoid(scale x + offset)), whose moments stand still. A layer's
numbers are [3, M]: slope, scale and offset, of which a kind reads those it has.

Legend: B rows, L events, C candidates, F features, M and K widths of the hidden layers, W the last one's.
"""

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor

PRELU: Final = 0
SIGMOID: Final = 1
DICE: Final = 2


def act(x: Tensor, numbers_3M: Tensor, kind: int) -> Tensor:
    slope, scale, offset = numbers_3M
    if kind == SIGMOID:
        return x.sigmoid()
    gate = (x > 0).to(x.dtype) if kind == PRELU else (x * scale + offset).sigmoid()
    return x * (slope + (1 - slope) * gate)


def reference(
    events_BLF: Tensor,
    candidates_BCF: Tensor,
    shifts_BCM: Tensor,
    w_event_FM: Tensor,
    w_product_FM: Tensor,
    first_3M: Tensor,
    w_second_MK: Tensor | None,
    bias_K: Tensor | None,
    second_3K: Tensor | None,
    weight_W: Tensor,
    kind: int,
    low: torch.dtype | None,
) -> Tensor:
    """[B, L, C]."""
    products_BLCF = events_BLF[:, :, None] * candidates_BCF[:, None]
    x = (events_BLF @ w_event_FM)[:, :, None] + products_BLCF @ w_product_FM + shifts_BCM[:, None]
    a = act(x, first_3M, kind)
    if w_second_MK is not None and bias_K is not None and second_3K is not None:
        a = act(a @ w_second_MK + bias_K, second_3K, kind)
    return a @ weight_W


def examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    low = None if dtype == torch.float32 else dtype
    shapes = ((2, 5, 3, 4, 6, None, PRELU), (2, 19, 2, 6, 20, None, PRELU), (3, 7, 1, 5, 6, 4, SIGMOID))
    for B, L, C, F, M, K, kind in (*shapes, (2, 18, 2, 17, 18, 5, PRELU), (1, 1, 1, 1, 1, 1, SIGMOID)):
        candidates, shifts = torch.randn(B, C, F), torch.randn(B, C, M)
        given = torch.randn(B, L, F), candidates, shifts, torch.randn(F, M) / F, torch.randn(F, M) / F, torch.rand(3, M)
        second = (None,) * 3 if K is None else (torch.randn(M, K) / M, torch.randn(K), torch.rand(3, K))
        yield *given, *second, torch.randn(K or M), kind, low
