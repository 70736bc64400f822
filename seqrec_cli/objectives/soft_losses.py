"""Cross-entropy with the next item and with a teacher's shares, in chunks, gradients in the same pass.

Legend: N training targets, n targets of one chunk, D width, V items (column 0 is padding), K items of the teacher.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqrec_cli.objectives.losses import add_product, chunk_rows, mean_score_difference, product_dtype


class Soft(NamedTuple):
    """What a teacher says of each target, and how much it counts."""

    items_NK: Tensor  # int64, all of a row different
    shares_NK: Tensor  # float32, of one; the rest is what it gives to all other items together
    alpha: float
    temperature: float
    leave_out: bool  # the next item is none of what the teacher speaks of


class _Distilled(torch.autograd.Function):
    """The two losses share the products with the table and one pass for the gradient; each has its softmax."""

    @staticmethod
    def forward(
        ctx: Any,
        queries_ND: Tensor,
        table_VD: Tensor,
        targets_N: Tensor,
        soft: Soft,
        chunk_mb: int,
        bias_V: Tensor | None,
        weights_N: Tensor | None,
    ) -> Tensor:
        dtype, total = product_dtype(queries_ND.device), len(queries_ND)
        items_VD = table_VD[1:].to(dtype)  # without padding; item v stands in column v - 1
        items_V = None if bias_V is None else bias_V[1:].to(dtype)
        grad_queries_ND = torch.empty_like(queries_ND)
        grad_table_VD = torch.zeros(table_VD.shape, dtype=torch.float32, device=table_VD.device)
        grad_bias_V = None if bias_V is None else torch.zeros(bias_V.shape, dtype=torch.float32, device=bias_V.device)
        loss = queries_ND.new_zeros((), dtype=torch.float32)
        size = max(1, chunk_rows(len(items_VD), dtype.itemsize, max(1, chunk_mb // 2), device=items_VD.device))
        with torch.autocast(queries_ND.device.type, enabled=False):
            for first in range(0, total, size):
                rows = slice(first, min(first + size, total))
                queries_nD, targets_n1 = queries_ND[rows].to(dtype), targets_N[rows, None] - 1
                scores_nV = queries_nD @ items_VD.T if items_V is None else torch.addmm(items_V, queries_nD, items_VD.T)
                hard_n, grad_nV = _next_item(scores_nV, targets_n1)
                soft_n, soft_grad_nV = _of_teacher(scores_nV, targets_n1, soft, rows=rows)
                loss_n = (1 - soft.alpha) * hard_n + soft.alpha * soft.temperature**2 * soft_n
                grad_nV.mul_(1 - soft.alpha).add_(soft_grad_nV, alpha=soft.alpha * soft.temperature)
                if weights_N is not None:
                    loss_n = loss_n * weights_N[rows]
                    grad_nV *= weights_N[rows, None].to(dtype)
                loss += loss_n.sum()
                grad_queries_ND[rows] = grad_nV @ items_VD
                add_product(grad_table_VD[1:], grad_nV, queries_nD)
                if grad_bias_V is not None:
                    grad_bias_V[1:] += grad_nV.sum(0, dtype=torch.float32)
        ctx.save_for_backward(grad_queries_ND, grad_table_VD, grad_bias_V)
        ctx.total, ctx.table_dtype = total, table_VD.dtype
        return loss / total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_queries_ND, grad_table_VD, grad_bias_V = ctx.saved_tensors
        scale = grads[0] / ctx.total
        return (
            grad_queries_ND.mul_(scale.to(grad_queries_ND.dtype)),
            grad_table_VD.mul_(scale).to(ctx.table_dtype),
            None,
            None,
            None,
            None if grad_bias_V is None else grad_bias_V.mul_(scale),
            None,
        )


def _next_item(scores_nV: Tensor, targets_n1: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropies [n] in fp32, and their gradients with respect to the scores."""
    grad_nV = torch.softmax(scores_nV, dim=1)
    own_n1 = grad_nV.gather(1, targets_n1).float()
    grad_nV.scatter_(1, targets_n1, (own_n1 - 1).to(grad_nV.dtype))
    return -_log(own_n1[:, 0]), grad_nV


def _of_teacher(scores_nV: Tensor, targets_n1: Tensor, soft: Soft, *, rows: slice) -> tuple[Tensor, Tensor]:
    """Divergences [n] over the teacher's items and the remainder, and their gradients with respect to scores / T.

    With q the student's shares and r, R the teacher's and the student's remainder, the gradient is q_k - p_k at the
    teacher's items and q_v (1 - r / R) at all others. `scores_nV` is used up.
    """
    columns_nK, shares_nK = soft.items_NK[rows] - 1, soft.shares_NK[rows]
    if soft.temperature != 1:
        scores_nV /= soft.temperature
    if soft.leave_out:
        scores_nV.scatter_(1, targets_n1, -torch.inf)
    torch.softmax(scores_nV, dim=1, out=scores_nV)
    own_nK = scores_nV.gather(1, columns_nK).float()
    scores_nV.scatter_(1, columns_nK, 0.0)
    # Summed, not one less the others: where these are nearly all, rounding would be most of the difference.
    own_rest_n = scores_nV.sum(1, dtype=torch.float32)
    rest_n = (1 - shares_nK.sum(1)).clamp(min=0)
    divergence_n = torch.xlogy(shares_nK, shares_nK).sum(1) + torch.xlogy(rest_n, rest_n)
    divergence_n -= (shares_nK * _log(own_nK)).sum(1) + rest_n * _log(own_rest_n)
    most = torch.finfo(scores_nV.dtype).max
    factor_n = 1 - rest_n / own_rest_n.clamp(min=torch.finfo(torch.float32).tiny)
    scores_nV *= factor_n.clamp(min=-most).to(scores_nV.dtype)[:, None]
    scores_nV.scatter_(1, columns_nK, (own_nK - shares_nK).to(scores_nV.dtype))
    return divergence_n, scores_nV


def _log(shares: Tensor) -> Tensor:
    return shares.clamp(min=torch.finfo(torch.float32).tiny).log()


def distilled_cross_entropy(
    queries_ND: Tensor,
    table_VD: Tensor,
    targets_N: Tensor,
    *,
    soft: Soft,
    chunk_mb: int,
    bias_V: Tensor | None = None,
    label_smoothing: float = 0.0,
    weights_N: Tensor | None = None,
) -> Tensor:
    """The (weighted) mean of (1 - alpha) cross-entropy of the next item + alpha T^2 divergence from the teacher.

    As `corpus_cross_entropy` in all else: products in autocast's format, sums in fp32, `chunk_mb` of scratch memory.
    """
    loss: Tensor = _Distilled.apply(queries_ND, table_VD, targets_N, soft, chunk_mb, bias_V, weights_N)
    if label_smoothing == 0:
        return loss
    difference_ND = F.embedding(targets_N, table_VD).float() - table_VD[1:].float().mean(0)
    difference_N1 = None if bias_V is None else (F.embedding(targets_N, bias_V[:, None]) - bias_V[1:].mean()).float()
    smoothed = mean_score_difference(queries_ND, difference_ND, difference_N1, weights_N=weights_N)
    return loss + (1 - soft.alpha) * label_smoothing * smoothed
