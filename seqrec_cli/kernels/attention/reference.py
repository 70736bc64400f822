"""Attention in torch's operators, all weights written out.

Legend: B rows, L queries, T keys, H heads, d a head's width. Masks are True at real keys.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from seqrec_cli.kernels.masked_softmax_dropout.reference import additive_mask


def reference(q_BHLd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor, mask_BT: Tensor | None, causal: bool) -> Tensor:
    """softmax(q k' / sqrt(d) + mask) v: [B, H, L, d]; a query none of whose keys is real sees all of them alike."""
    logits = q_BHLd @ k_BHTd.transpose(2, 3) * q_BHLd.shape[-1] ** -0.5
    if causal or mask_BT is not None:
        logits = logits + additive_mask(causal, mask_BT, q_BHLd, k_BHTd.shape[2])
    weights: Tensor = logits.softmax(-1) @ v_BHTd
    return weights


def examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    shapes = ((2, 1, 5, 5, 4), (3, 2, 70, 70, 20), (2, 2, 1, 33, 16), (1, 3, 150, 150, 33), (2, 1, 130, 9, 8))
    for B, H, L, T, d in shapes:
        q, k, v = (torch.randn(B, steps, H, d, dtype=dtype).transpose(1, 2) for steps in (L, T, T))
        mask_BT = torch.arange(T) < torch.randint(1, T + 1, (B, 1))
        mask_BT[0, : T // 2] = False
        mask_BT[-1] = False
        yield q, k, v, mask_BT, False
        yield q.contiguous(), k, v, None, L == T
    yield torch.randn(0, 1, 3, 4), torch.randn(0, 1, 3, 4), torch.randn(0, 1, 3, 4), None, True
    yield *(torch.randn(3, 2, 90, 24) for _ in range(3)), None, True
