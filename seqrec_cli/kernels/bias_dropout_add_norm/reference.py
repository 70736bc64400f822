"""x + dropout(branch + bias), and the layer norm of the sum, in torch's operators."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.kernels.dropout.reference import apply_by_row


def add_reference(x: Tensor, branch: Tensor, bias_D: Tensor, seed: int, levels: int) -> Tensor:
    return x + apply_by_row(branch + bias_D, seed, levels)


def reference(
    x: Tensor, branch: Tensor, bias_D: Tensor, scale_D: Tensor, shift_D: Tensor, epsilon: float, seed: int, levels: int
) -> tuple[Tensor, Tensor]:
    total = add_reference(x, branch, bias_D, seed, levels)
    return total, nn.functional.layer_norm(total, bias_D.shape, scale_D, shift_D, epsilon)


def add_examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    for x, branch, bias_D, _, _, _, seed, levels in examples(dtype):
        yield x, branch, bias_D, seed, levels


def examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    for width in (1, 5, 16, 36, 200):
        for levels in (0, 64):
            x, branch = torch.randn(2, 131, width).to(dtype)
            yield x, branch, torch.randn(width), 1 + 0.3 * torch.randn(width), torch.randn(width), 1e-5, 2**60, levels
