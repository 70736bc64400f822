"""A linear layer in torch's operators.

Legend: D inputs, M outputs; leading dimensions are free.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def reference(x: Tensor, weight_MD: Tensor, bias_M: Tensor | None) -> Tensor:
    """x weight' + bias: [..., D] -> [..., M]."""
    return torch.nn.functional.linear(x, weight_MD, bias_M)


def examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    shapes = (
        ((3, 5), 7, True),
        ((2, 100, 64), 33, True),
        ((4100, 17), 40, False),
        ((9, 300), 64, True),
        ((0, 4), 5, True),
    )
    for shape, M, biased in shapes:
        yield torch.randn(shape, dtype=dtype), torch.randn(M, shape[-1]), torch.randn(M) if biased else None
    yield (
        torch.randn(8300, 20, dtype=dtype),
        torch.randn(6, 20),
        torch.randn(6),
    )  # more rows than a slab of the gradient
