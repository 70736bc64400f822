"""Cross-entropies among all items and their gradients in torch's operators, all scores written out.

Legend: N targets, D width, V items (row 0 is padding).
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def reference(
    queries_ND: Tensor,
    table_VD: Tensor,
    targets_N: Tensor,
    bias_V: Tensor | None,
    weights_N: Tensor | None,
    chunk: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The cross-entropy [N] of each query's target among all items but row 0, and the gradients of its sum, weighted
    where there are weights, by queries, table and biases (empty without); a target of 0 belongs to nothing."""
    queries_ND, table_VD = queries_ND.detach(), table_VD.detach()
    logits_NV = queries_ND @ table_VD[1:].T
    if bias_V is not None:
        logits_NV = logits_NV + bias_V.detach()[1:]
    losses_N = F.cross_entropy(logits_NV, targets_N - 1, reduction="none")
    grad_NV = logits_NV.softmax(1) - F.one_hot(targets_N - 1, logits_NV.shape[1])
    if weights_N is not None:
        grad_NV = grad_NV * weights_N.detach()[:, None]
    grad_bias_V = queries_ND.new_empty(0) if bias_V is None else F.pad(grad_NV.sum(0), (1, 0))
    return losses_N, grad_NV @ table_VD[1:], F.pad(grad_NV.T @ queries_ND, (0, 0, 1, 0)), grad_bias_V


def examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    shapes = (
        (7, 2, 4, 1.0, True, 32),
        (37, 75, 20, 1.0, False, 32),
        (70, 150, 17, 30.0, True, 32),
        (5, 100, 64, 1.0, True, 64),
    )
    for N, V, D, scale, more, chunk in shapes:
        targets_N = torch.randint(1, V, (N,))
        bias_V, weights_N = (torch.randn(V), torch.rand(N)) if more else (None, None)
        yield torch.randn(N, D) * scale, torch.randn(V, D), targets_N, bias_V, weights_N, chunk
    yield torch.randn(0, 8), torch.randn(9, 8), torch.zeros(0, dtype=torch.long), None, None, 32
    yield torch.randn(170, 33), torch.randn(200, 33), torch.randint(1, 200, (170,)), torch.randn(200), None, 32
