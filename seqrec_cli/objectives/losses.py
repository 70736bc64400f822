"""Losses of encoders: they see queries, targets and the item table, never a B x L x V tensor.

Legend: N training targets, n targets of one chunk, D width, V items (column 0 is padding), K negatives.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

MOST_ROWS = 1024  # larger chunks are no faster: the passes over one already stream from memory


def product_dtype(device: torch.device) -> torch.dtype:
    """The number format of matrix products here: autocast's inside autocast, else fp32."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32


def chunk_rows(columns: int, itemsize: int, budget_mb: int) -> int:
    """Rows of a chunk whose logits and probabilities fit the budget."""
    return max(1, min(MOST_ROWS, budget_mb * 2**20 // (2 * columns * itemsize)))


class _CorpusCrossEntropy(torch.autograd.Function):
    """Forward runs in chunks and forms the gradient in the same pass: a chunk's logits die with it."""

    @staticmethod
    def forward(ctx: Any, queries_ND: Tensor, table_VD: Tensor, targets_N: Tensor, budget_mb: int) -> Tensor:
        dtype, total = product_dtype(queries_ND.device), len(queries_ND)
        items_VD = table_VD[1:].to(dtype)  # without padding; target t stands in column t - 1
        columns_N = targets_N - 1
        grad_queries_ND = torch.empty(queries_ND.shape, dtype=queries_ND.dtype, device=queries_ND.device)
        grad_table_VD = torch.zeros(table_VD.shape, dtype=torch.float32, device=table_VD.device)
        loss = queries_ND.new_zeros((), dtype=torch.float32)
        size = chunk_rows(len(items_VD), items_VD.element_size(), budget_mb)
        with torch.autocast(queries_ND.device.type, enabled=False):
            for rows in range(0, total, size):
                queries_nD = queries_ND[rows : rows + size].to(dtype)
                columns_n1 = columns_N[rows : rows + size, None]
                # One kernel, fp32 inside whatever the dtype of its ends.
                probability_nV = torch.softmax(queries_nD @ items_VD.T, dim=1)
                own_n1 = probability_nV.gather(1, columns_n1).float()
                loss -= own_n1.clamp(min=torch.finfo(torch.float32).tiny).log().sum()
                probability_nV.scatter_(1, columns_n1, (own_n1 - 1).to(dtype))
                grad_queries_ND[rows : rows + size] = probability_nV @ items_VD
                grad_table_VD[1:] += probability_nV.T @ queries_nD
        ctx.save_for_backward(grad_queries_ND, grad_table_VD)
        ctx.total = total
        ctx.table_dtype = table_VD.dtype
        return loss / total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_queries_ND, grad_table_VD = ctx.saved_tensors
        scale = grads[0] / ctx.total
        # In place: the node is used once, and these are the largest tensors of a step.
        return (
            grad_queries_ND.mul_(scale.to(grad_queries_ND.dtype)),
            grad_table_VD.mul_(scale).to(ctx.table_dtype),
            None,
            None,
        )


def corpus_cross_entropy(queries_ND: Tensor, table_VD: Tensor, targets_N: Tensor, budget_mb: int) -> Tensor:
    """Mean cross-entropy of each query's target among all items, in `budget_mb` of scratch memory.

    Products run in autocast's format, sums and the loss in fp32. One target's loss saturates at 87 nats (the
    smallest fp32 probability); its gradient does not.
    """
    if torch.is_grad_enabled():
        loss: Tensor = _CorpusCrossEntropy.apply(queries_ND, table_VD, targets_N, budget_mb)
        return loss
    with torch.no_grad():
        return F.cross_entropy(queries_ND.float() @ table_VD[1:].float().T, targets_N - 1)


def binary_cross_entropy(queries_ND: Tensor, table_VD: Tensor, targets_N: Tensor, negatives_NK: Tensor) -> Tensor:
    """Mean over targets of -log s(target) - sum_k log(1 - s(negative_k)), s the sigmoid of the inner product.

    SASRec (Kang & McAuley 2018, eq. 7) with K = 1. A negative of 0 (the user has met every item) counts nothing.
    """
    positive_N = (queries_ND * table_VD[targets_N]).sum(-1)
    negative_NK = torch.einsum("nd,nkd->nk", queries_ND, table_VD[negatives_NK])
    present_NK = negatives_NK > 0
    return (F.softplus(-positive_N.float()) + (F.softplus(negative_NK.float()) * present_NK).sum(-1)).mean()
