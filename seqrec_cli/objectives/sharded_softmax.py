"""Softmax over a corpus whose item table is spread over the ranks (`models/layers/row_shard.py`).

With the queries of all ranks at every rank, rank r has the logits s_nv of its own items I_r alone:

    m_n = max_r max_{v in I_r} s_nv                        all-reduced maximum
    z_n = sum_r sum_{v in I_r} exp(s_nv - m_n)             all-reduced sum
    l_n = m_n + log z_n - s_n,target(n)                    the target's logit from the rank that owns its row

and with p_nv = exp(s_nv - m_n) / z_n the gradients are exact:

    dL/dq_n = c_n (sum_r sum_{v in I_r} p_nv w_v - w_target(n))      summed over ranks, sent to the rank of query n
    dL/dw_v = sum_n c_n (p_nv - [v = target(n)]) q_n                 of the queries of all ranks, for v in I_r

It is the pass of `losses.corpus_cross_entropy` with a logarithm of sums that is agreed on: gradients are made while a
chunk's logits are there.

Legend: W ranks, M targets of this rank, N those of all ranks, n those of one chunk, D width, R rows of the table here,
V items here (rows without padding).
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqrec_cli.models.contract import SequenceEncoder
from seqrec_cli.models.layers.row_shard import RowShard, counts_of_all, from_all, largest, summed_for_each
from seqrec_cli.objectives.losses import add_product, chunk_rows, mean_score_difference, product_dtype

BLOCK = 2**20  # logits that become exponents at once: what is made of them in fp32 stays in cache


class _Local(NamedTuple):
    """This rank's items: their vectors and biases in the format of products, and the first one's row."""

    items_VD: Tensor
    bias_V: Tensor | None
    padding: int  # 1 where row 0 is here: no item


class _Gradients(NamedTuple):
    """Of the summed losses."""

    queries_ND: Tensor  # this rank's share of them
    table_RD: Tensor
    bias_R: Tensor | None


class _ShardedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries_MD: Tensor,
        table_RD: Tensor,
        targets_M: Tensor,
        shard: RowShard,
        chunk_mb: int,
        bias_R: Tensor | None,
        weights_M: Tensor | None,
        learns: bool,
    ) -> Tensor:
        device, dtype = queries_MD.device, product_dtype(queries_MD.device) if learns else torch.float32
        counts = counts_of_all(len(queries_MD), shard, device)
        queries_ND, targets_N = from_all(queries_MD.to(dtype), counts), from_all(targets_M, counts)
        weights_N = None if weights_M is None else from_all(weights_M, counts)
        padding = int(shard.first == 0)
        local = _Local(table_RD[padding:].to(dtype), None if bias_R is None else bias_R[padding:].to(dtype), padding)
        gradients = None
        if learns:
            gradients = _Gradients(
                torch.empty(queries_ND.shape, dtype=torch.float32, device=device),
                torch.zeros(table_RD.shape, dtype=torch.float32, device=device),
                None if bias_R is None else torch.zeros(bias_R.shape, dtype=torch.float32, device=device),
            )
        columns_N = torch.where(shard.held(targets_N), targets_N - shard.first - padding, -1)
        # As many queries a chunk on every rank, however many items it has: they sum each chunk's exponents together.
        size = chunk_rows(shard.each, dtype.itemsize, chunk_mb, device=device)
        losses_N = torch.empty(len(queries_ND), dtype=torch.float32, device=device)
        scores_nV = torch.empty((min(size, len(queries_ND)), len(local.items_VD)), dtype=dtype, device=device)
        with torch.autocast(device.type, enabled=False):
            for first in range(0, len(queries_ND), size):
                part = slice(first, first + size)
                weights_n = None if weights_N is None else weights_N[part]
                losses_N[part] = _chunk(
                    queries_ND[part],
                    local,
                    columns_N[part],
                    shard=shard,
                    scores=scores_nV,
                    gradients=gradients,
                    rows=part,
                    weights_n=weights_n,
                )
        if gradients is not None:
            ctx.save_for_backward(
                summed_for_each(gradients.queries_ND, counts, shard).to(queries_MD.dtype),
                gradients.table_RD,
                gradients.bias_R,
            )
            ctx.count, ctx.table_dtype = len(queries_MD), table_RD.dtype
        start = sum(counts[: shard.rank])
        losses_M = losses_N[start : start + len(queries_MD)]
        total = losses_M.sum() if weights_M is None else weights_M.float() @ losses_M
        return total / max(len(queries_MD), 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_queries_MD, grad_table_RD, grad_bias_R = ctx.saved_tensors
        # A target weighs the same on whatever rank it is; a rank without targets learns it from the others.
        scale = grads[0].float() / ctx.count if ctx.count else torch.zeros((), device=grads[0].device)
        largest(scale)
        return (
            grad_queries_MD.mul_(scale.to(grad_queries_MD.dtype)),
            grad_table_RD.mul_(scale).to(ctx.table_dtype),
            None,
            None,
            None,
            None if grad_bias_R is None else grad_bias_R.mul_(scale),
            None,
            None,
        )


def _chunk(
    queries_nD: Tensor,
    local: _Local,
    columns_n: Tensor,
    *,
    shard: RowShard,
    scores: Tensor,
    gradients: _Gradients | None,
    rows: slice,
    weights_n: Tensor | None,
) -> Tensor:
    """The losses fp32 [n] of some queries, whose targets stand in these columns (-1: on another rank)."""
    scores_nV = scores[: len(queries_nD)]
    if local.bias_V is None:
        torch.mm(queries_nD, local.items_VD.T, out=scores_nV)
    else:
        torch.addmm(local.bias_V, queries_nD, local.items_VD.T, out=scores_nV)
    here_n = columns_n >= 0
    own_n = scores_nV.gather(1, columns_n.clamp(min=0)[:, None])[:, 0].float().where(here_n, 0.0)
    largest_n, sums_n = to_exponents(scores_nV)
    most_n = largest(largest_n.clone())
    share_n = (largest_n - most_n).exp()  # of this rank's exponents in those of all
    both_2n = torch.stack([sums_n * share_n, own_n])
    sums_n, own_n = shard.processes.sum(both_2n)
    if gradients is not None:
        share_n = share_n / sums_n
        if weights_n is not None:
            share_n = share_n * weights_n
        target_n = here_n.float() if weights_n is None else here_n * weights_n
        targets_nD, places_n = local.items_VD[columns_n.clamp(min=0)], columns_n.clamp(min=0) + local.padding
        # The shares go with the queries: no further pass over the scores.
        gradients.queries_ND[rows] = (scores_nV @ local.items_VD) * share_n[:, None] - target_n[:, None] * targets_nD
        add_product(gradients.table_RD[local.padding :], scores_nV, (queries_nD * share_n[:, None]).to(scores_nV.dtype))
        gradients.table_RD.index_add_(0, places_n, queries_nD.float() * -target_n[:, None])
        if gradients.bias_R is not None:
            gradients.bias_R[local.padding :] += share_n @ scores_nV.float()
            gradients.bias_R.index_add_(0, places_n, -target_n)
    return most_n + sums_n.log() - own_n


def to_exponents(scores_nV: Tensor) -> tuple[Tensor, Tensor]:
    """In place exp(score - the row's largest), in blocks of rows that are worked on in fp32; the largest and the sums,
    fp32 [n]."""
    largest_n, sums_n = (torch.empty(len(scores_nV), device=scores_nV.device) for _ in range(2))
    size = max(1, BLOCK // scores_nV.shape[1])
    for first in range(0, len(scores_nV), size):
        part = slice(first, first + size)
        scores = scores_nV[part].float()  # itself, in fp32
        largest_n[part] = scores.amax(1)
        scores.sub_(largest_n[part, None]).exp_()
        sums_n[part] = scores.sum(1)
        if scores_nV.dtype != torch.float32:
            scores_nV[part] = scores
    return largest_n, sums_n


def sharded_cross_entropy(
    queries_MD: Tensor,
    table_RD: Tensor,
    targets_M: Tensor,
    *,
    shard: RowShard,
    chunk_mb: int,
    bias_V: Tensor | None = None,
    weights_M: Tensor | None = None,
) -> Tensor:
    """`corpus_cross_entropy` of this rank's targets where the table is sharded: a collective, which every rank calls
    with targets of its own, maybe none.

    The value is the mean over this rank's targets. The gradients are those of the losses of all ranks' targets,
    summed: what the value's gradient is, divided by the rank's number of targets, has to be the same on all ranks, as
    it is where a rank's mean counts by its targets. `bias_V` is whole on every rank, and its gradient is this rank's
    part of it.
    """
    bias_R = None if bias_V is None else bias_V[shard.first : shard.last]
    loss: Tensor = _ShardedCrossEntropy.apply(
        queries_MD, table_RD, targets_M, shard, chunk_mb, bias_R, weights_M, torch.is_grad_enabled()
    )
    return loss


def encoder_cross_entropy(
    encoder: SequenceEncoder,
    queries_MD: Tensor,
    targets_M: Tensor,
    *,
    shard: RowShard,
    chunk_mb: int,
    smoothing: float,
    weights_M: Tensor | None,
) -> Tensor:
    """The same for an encoder, with label smoothing as `corpus_cross_entropy` has it."""
    table_RD, bias_V = encoder.item_table(), encoder.item_bias()
    loss = sharded_cross_entropy(
        queries_MD, table_RD, targets_M, shard=shard, chunk_mb=chunk_mb, bias_V=bias_V, weights_M=weights_M
    )
    if smoothing == 0:
        return loss
    padding = int(shard.first == 0)
    mean_D = shard.sum(table_RD[padding:].float().sum(0)) / (shard.rows - 1)
    difference_MD = encoder.item_vectors(targets_M).float() - mean_D
    difference_M1 = None if bias_V is None else (F.embedding(targets_M, bias_V[:, None]) - bias_V[1:].mean()).float()
    difference = mean_score_difference(queries_MD, difference_MD, difference_M1, weights_N=weights_M)
    return loss + smoothing * (difference if len(targets_M) else difference_MD.sum())
