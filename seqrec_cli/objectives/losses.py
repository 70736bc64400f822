"""Losses of encoders: they see queries, targets and the item table, never a B x L x V tensor.

Legend: N training targets, n targets of one chunk, D width, V items (column 0 is padding), K negatives.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqrec_cli.data.sizes import TARGETS_STEP, common_size
from seqrec_cli.kernels.corpus_gradients import op as in_c
from seqrec_cli.kernels.corpus_softmax.op import corpus_losses, usable

# On a CPU larger chunks are no faster: the passes over one already stream from memory. In fp32 chunks that the last
# cache holds are 7 % faster (AVX2, 3,417 items, D 64: 8,192 targets in 206 ms, 221 by 1,024 rows).
MOST_ROWS, MOST_FP32_ROWS = 1024, 256
FP32_BYTES = 4
ITEM_BLOCK = 16_384  # items whose share of the table's gradient is made at once: small enough to stay in cache


def product_dtype(device: torch.device) -> torch.dtype:
    """The number format of matrix products here: autocast's inside autocast, else fp32."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32


def chunk_rows(columns: int, itemsize: int, chunk_mb: int, *, device: torch.device) -> int:
    """Rows of a chunk whose logits, which become probabilities in place, fit the budget.

    Few rows make thin products: with a million items 268 of them (512 MB) were 1.5 to 2 times as fast as 67.
    """
    fitting = max(1, chunk_mb * 2**20 // (columns * itemsize))
    return min(MOST_FP32_ROWS if itemsize == FP32_BYTES else MOST_ROWS, fitting) if device.type == "cpu" else fitting


def add_product(sum_VD: Tensor, weight_nV: Tensor, queries_nD: Tensor) -> None:
    """`sum += weight.T @ queries`; where the formats differ, by blocks of items, so that no [V, D] product is made."""
    if sum_VD.dtype == weight_nV.dtype:
        sum_VD.addmm_(weight_nV.T, queries_nD)
        return
    for first in range(0, len(sum_VD), ITEM_BLOCK):
        sum_VD[first : first + ITEM_BLOCK] += weight_nV[:, first : first + ITEM_BLOCK].T @ queries_nD


class _CorpusCrossEntropy(torch.autograd.Function):
    """Forward runs in chunks and forms the gradient in the same pass: a chunk's logits die with it."""

    @staticmethod
    def forward(
        ctx: Any,
        queries_ND: Tensor,
        table_VD: Tensor,
        targets_N: Tensor,
        chunk_mb: int,
        bias_V: Tensor | None,
        weights_N: Tensor | None,
    ) -> Tensor:
        dtype, total = product_dtype(queries_ND.device), len(queries_ND)
        fitting = chunk_rows(len(table_VD) - 1, dtype.itemsize, chunk_mb, device=queries_ND.device)
        if in_c.usable(queries_ND, table_VD, dtype, rows=fitting):
            losses_N, *grads = in_c.corpus_gradients(
                queries_ND, table_VD, targets_N, bias_V=bias_V, weights_N=weights_N, rows=fitting
            )
            ctx.save_for_backward(*grads)
            ctx.total, ctx.table_dtype = total, table_VD.dtype
            return (losses_N.sum() if weights_N is None else losses_N @ weights_N) / total
        items_VD = table_VD[1:].to(dtype)  # without padding; target t stands in column t - 1
        columns_N = targets_N - 1
        grad_queries_ND = torch.empty(queries_ND.shape, dtype=queries_ND.dtype, device=queries_ND.device)
        grad_table_VD = torch.zeros(table_VD.shape, dtype=torch.float32, device=table_VD.device)
        items_V = None if bias_V is None else bias_V[1:].to(dtype)
        grad_bias_V = None if bias_V is None else torch.zeros(bias_V.shape, dtype=torch.float32, device=bias_V.device)
        loss = queries_ND.new_zeros((), dtype=torch.float32)
        each = -(-total // max(-(-total // fitting), 1))  # even chunks: a small last one costs more than its share
        size = min(common_size(each, TARGETS_STEP, items_VD.device), fitting)
        chunk_nV = torch.empty((size, len(items_VD)), dtype=dtype, device=items_VD.device)  # the same memory for all
        with torch.autocast(queries_ND.device.type, enabled=False):
            for rows in range(0, total, max(size, 1)):
                n = min(size, total - rows)
                padded = min(common_size(n, TARGETS_STEP, items_VD.device), size)
                queries_nD = queries_ND[rows : rows + n].to(dtype)
                if padded > n:  # with queries of zeros, which are no one's
                    queries_nD = F.pad(queries_nD, (0, 0, 0, padded - n))
                targets_n = (torch.arange(n, device=queries_nD.device), columns_N[rows : rows + n])
                probability_nV = chunk_nV[:padded]
                if items_V is None:
                    torch.mm(queries_nD, items_VD.T, out=probability_nV)
                else:
                    torch.addmm(items_V, queries_nD, items_VD.T, out=probability_nV)
                # One kernel, fp32 inside whatever the dtype of its ends; it writes an element after its last read.
                torch.softmax(probability_nV, dim=1, out=probability_nV)
                own_n = probability_nV[targets_n].float()
                logs_n = own_n.clamp(min=torch.finfo(torch.float32).tiny).log()
                loss -= logs_n.sum() if weights_N is None else weights_N[rows : rows + n] @ logs_n
                # Not by `scatter_`: in bf16 it copies the whole chunk to fp32 and back.
                probability_nV[targets_n] = (own_n - 1).to(dtype)
                probability_nV[n:] = 0
                if weights_N is not None:  # the weights of the gradient, in the one pass over the scores that they cost
                    probability_nV[:n] *= weights_N[rows : rows + n, None].to(dtype)
                grad_queries_ND[rows : rows + n] = (probability_nV @ items_VD)[:n]
                add_product(grad_table_VD[1:], probability_nV, queries_nD)
                if grad_bias_V is not None:
                    grad_bias_V[1:] += probability_nV.sum(0, dtype=torch.float32)
        ctx.save_for_backward(grad_queries_ND, grad_table_VD, grad_bias_V)
        ctx.total = total
        ctx.table_dtype = table_VD.dtype
        return loss / total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_queries_ND, grad_table_VD, grad_bias_V = ctx.saved_tensors
        scale = grads[0] / ctx.total
        # In place: the node is used once, and these are the largest tensors of a step.
        return (
            grad_queries_ND.mul_(scale.to(grad_queries_ND.dtype)),
            grad_table_VD.mul_(scale).to(ctx.table_dtype),
            None,
            None,
            None if grad_bias_V is None else grad_bias_V.mul_(scale),
            None,
        )


def corpus_cross_entropy(
    queries_ND: Tensor,
    table_VD: Tensor,
    targets_N: Tensor,
    *,
    chunk_mb: int,
    bias_V: Tensor | None = None,
    label_smoothing: float = 0.0,
    weights_N: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of each query's target among all items, in `chunk_mb` of scratch memory.

    An item's score is its inner product with the query, and its bias where there is one. Products run in autocast's
    format, sums and the loss in fp32. On a GPU no score is written to memory (`kernels/corpus_softmax`); on a CPU in
    fp32 C makes gradients and scores in one pass where that is faster (`kernels/corpus_gradients`); in torch's chunks
    one target's loss saturates at 87 nats (the smallest fp32 probability), its gradient does not. Of a target's
    probability all items share `label_smoothing` alike, the target included. With `weights_N` it is the mean of
    weight x loss.
    """
    low = product_dtype(queries_ND.device)
    if torch.is_grad_enabled() and usable(queries_ND, low):
        losses_N = corpus_losses(queries_ND, table_VD, targets_N, bias_V, low)
        loss = (losses_N if weights_N is None else losses_N * weights_N).mean()
    elif torch.is_grad_enabled():
        loss = _CorpusCrossEntropy.apply(queries_ND, table_VD, targets_N, chunk_mb, bias_V, weights_N)
    else:
        logits_NV = queries_ND.float() @ table_VD[1:].float().T
        logits_NV = logits_NV if bias_V is None else logits_NV + bias_V[1:]
        loss = F.cross_entropy(logits_NV, targets_N - 1)
        if weights_N is not None:
            loss = (F.cross_entropy(logits_NV, targets_N - 1, reduction="none") * weights_N).mean()
    if label_smoothing == 0:
        return loss
    # log sum exp - (1 - e) s(target) - e mean s  =  the loss + e (s(target) - mean s): no pass over the scores.
    difference_ND = F.embedding(targets_N, table_VD).float() - table_VD[1:].float().mean(0)
    difference_N1 = None if bias_V is None else (F.embedding(targets_N, bias_V[:, None]) - bias_V[1:].mean()).float()
    return loss + label_smoothing * mean_score_difference(queries_ND, difference_ND, difference_N1, weights_N=weights_N)


def mean_score_difference(
    queries_ND: Tensor,
    difference_ND: Tensor,
    difference_N1: Tensor | None = None,
    *,
    weights_N: Tensor | None = None,
) -> Tensor:
    """The (weighted) mean difference of two scores, from the differences of their items' vectors and biases, in
    fp32."""
    with torch.autocast(queries_ND.device.type, enabled=False):
        differences_N = (queries_ND.float() * difference_ND).sum(-1)
        differences_N = differences_N if difference_N1 is None else differences_N + difference_N1[:, 0]
        return (differences_N if weights_N is None else differences_N * weights_N).mean()
