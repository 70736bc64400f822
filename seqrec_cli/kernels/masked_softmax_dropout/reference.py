"""The masked softmax with dropout in torch's operators.

Legend: B rows, L queries, T keys, H heads, d a head's width; A is B, or 1. Masks are True at real keys.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from seqrec_cli.kernels.dropout.reference import apply_by_row


def additive_mask(
    causal: bool, mask_BT: Tensor | None, q_BHLd: Tensor, keys: int, bias_AHLT: Tensor | None = None
) -> Tensor:
    """What is added to logits [B, H, L, T]: the bias (0 without) where a query may look, a very low number elsewhere.

    It has one row where all rows are the same, and one query where all queries are.
    The number is finite, so that a row without any real key gets even weights and not NaN.
    """
    low = torch.finfo(q_BHLd.dtype).min / 2
    queries = q_BHLd.shape[2]
    mask = q_BHLd.new_zeros((1, 1, queries if causal else 1, keys))
    if causal:
        mask = mask + q_BHLd.new_full((queries, keys), low).triu(1)
    if bias_AHLT is not None:
        mask = mask + bias_AHLT.to(mask.dtype)
    if mask_BT is not None:
        mask = mask.masked_fill(~mask_BT[:, None, None, :], low)
    return mask


def reference(
    logits: Tensor, mask_BT: Tensor | None, causal: bool, scale: float, seed: int, levels: int
) -> tuple[Tensor]:
    """[rows x heads, L, T] -> the same, as weights."""
    by_row = logits[None] if mask_BT is None else logits.unflatten(0, (len(mask_BT), -1))
    masked = scale * by_row + additive_mask(causal, mask_BT, logits[None], logits.shape[-1])
    return (apply_by_row(masked.softmax(-1).view_as(logits), seed, levels),)


def examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    for keys in (1, 5, 16, 107):
        for causal in (False, True):
            for levels in (0, 64):
                mask_BT = torch.rand(2, keys) < 0.7 if keys > 1 else None
                if mask_BT is not None:
                    mask_BT[:, 0] = True
                yield (torch.randn(6, keys, keys) * 3).to(dtype), mask_BT, causal, 0.5, 123456789, levels
    yield torch.randn(2, 3, 4).to(dtype), torch.tensor([[False] * 4, [True] * 4]), False, 1.0, 0, 0  # no real key
