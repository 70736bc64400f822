"""dropout(activation(x + bias)) in torch's operators."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.kernels.dropout.reference import apply_by_row

# In the order of the C source's enum.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": nn.functional.relu,
    "leaky_relu": nn.functional.leaky_relu,
    "gelu": nn.functional.gelu,
}


def reference(x: Tensor, bias_M: Tensor, activation: int, seed: int, levels: int) -> Tensor:
    return apply_by_row(list(ACTIVATIONS.values())[activation](x + bias_M), seed, levels)


def examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    for width in (1, 5, 36, 200):
        for activation in range(len(ACTIVATIONS)):
            for levels in (0, 64):
                yield torch.randn(131, width).to(dtype), torch.randn(width), activation, -7, levels
