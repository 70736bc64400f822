"""The softmax over the corpus in torch's operators, all scores written out.

Legend: N targets, D width, V items (row 0 is padding).
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def reference(
    queries_ND: Tensor, table_VD: Tensor, targets_N: Tensor, bias_V: Tensor | None, low: torch.dtype | None
) -> Tensor:
    """The cross-entropy [N] of each query's target among all items but row 0; 0 where the target is 0 (ignored)."""
    if low is not None:
        queries_ND, table_VD = (x.to(low).to(x.dtype) for x in (queries_ND, table_VD))
    logits_NV = queries_ND @ table_VD[1:].T
    if bias_V is not None:
        logits_NV = logits_NV + bias_V[1:]
    return F.cross_entropy(logits_NV, targets_N - 1, ignore_index=-1, reduction="none")


def examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    low = None if dtype == torch.float32 else dtype
    shapes = ((7, 2, 4, 1.0, True), (37, 75, 20, 1.0, False), (20, 50, 17, 30.0, True), (5, 100, 64, 1.0, False))
    for N, V, D, scale, biased in shapes:
        targets_N = torch.randint(1, V, (N,))
        targets_N[::5] = 0
        yield torch.randn(N, D) * scale, torch.randn(V, D), targets_N, torch.randn(V) if biased else None, low
    yield torch.randn(3, 8), torch.randn(9, 8), torch.zeros(3, dtype=torch.long), None, low  # nothing to learn from
    yield torch.randn(0, 8), torch.randn(9, 8), torch.zeros(0, dtype=torch.long), None, low
