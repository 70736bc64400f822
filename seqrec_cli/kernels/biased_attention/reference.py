"""Attention with a bias in torch's operators, every logit written out.

    logits = scale q k' + bias      softmax: softmax(logits) v      pointwise (HSTU): silu(logits) v

A key is seen where it is real and, if `causal`, no later than the query. What is not seen has a very low logit, so that
in a softmax a query that sees nothing weighs all keys alike, and no gradient.

Legend: B rows, H heads, L queries, T keys, d a head's width; A is B or 1, K is H or 1. Masks are True at real keys.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LOW = -1e30  # finite in fp32 and bf16


def reference(
    q_BHLd: Tensor,
    k_BHTd: Tensor,
    v_BHTd: Tensor,
    bias_AKLT: Tensor,
    mask_BT: Tensor | None,
    seed: Tensor | None,
    causal: bool,
    scale: float,
    pointwise: bool,
    drop: float,
) -> Tensor:
    """[B, H, L, d]; `seed` and `drop`, the dropout of the softmax's weights, are not for the reference."""
    assert drop == 0.0
    logits = (q_BHLd @ k_BHTd.transpose(2, 3)) * scale + bias_AKLT
    seen = logits.new_ones(logits.shape[-2:], dtype=torch.bool)
    seen = seen.tril() if causal else seen
    seen = seen if mask_BT is None else seen & mask_BT[:, None, None]
    logits = logits.masked_fill(~seen, LOW)
    return (F.silu(logits) if pointwise else logits.softmax(-1)) @ v_BHTd


def examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    shapes = (  # B, H, L, T, d, A, K, causal, masked, pointwise
        (2, 2, 19, 19, 5, 1, 2, True, False, False),
        (2, 1, 7, 33, 16, 2, 1, False, True, False),
        (2, 2, 18, 18, 8, 2, 1, True, False, True),
        (3, 2, 1, 18, 4, 1, 1, False, True, True),
        (2, 1, 9, 9, 8, 1, 1, True, True, False),
        (1, 1, 1, 1, 3, 1, 1, True, False, True),
    )
    for B, H, L, T, d, A, K, causal, masked, pointwise in shapes:
        q, k, v = (torch.randn(B, H, n, d).to(dtype) for n in (L, T, T))
        mask_BT = torch.rand(B, T) < 0.6 if masked else None
        if mask_BT is not None:
            mask_BT[0] = False  # a row of padding alone
        yield q * 3, k, v, torch.randn(A, K, L, T), mask_BT, None, causal, d**-0.5, pointwise, 0.0
