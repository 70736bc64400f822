"""Owners of items shown in proportion to what they interact: a term of the loss (`objective.owner_weight`).

"How many items you interacted, how many times your items get recommended" (Huang, section 4.5):

    loss = cross-entropy + owner_weight x sum_o t_o log(t_o / e_o)

with t_o owner o's share of the owners' training events and e_o the owner's share of the softmax that the batch's
positions give to owned items: what would be shown if every position drew one item from its softmax (the expected
exposure of Singh & Joachims 2018, arXiv 1802.07281, with lists of one). The divergence is 0 where all are shown in
proportion, and its gradient pushes scores of owners up that are shown too little. Items that belong to nobody are in
neither share.

Deviations from what is served: places are not discounted, seen items are not left out, and one batch stands for all
users. `seqrec exposure` measures lists.

Legend: N targets, n of a chunk, D width, V items (V1 with padding, 0), O owners.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqrec_cli.objectives.losses import chunk_rows
from seqrec_cli.processes import current

FP32_BYTES = 4


class _Divergence(torch.autograd.Function):
    """Two passes over the softmax in chunks: the owners' shares of it, and the gradient that follows from them."""

    @staticmethod
    def forward(
        ctx: Any,
        queries_ND: Tensor,
        table_VD: Tensor,
        bias_V: Tensor | None,
        owner_V1: Tensor,
        due_O: Tensor,
        chunk_mb: int,
    ) -> Tensor:
        items_VD, owner_V = table_VD[1:].float(), owner_V1[1:]
        rows = chunk_rows(len(items_VD), FP32_BYTES, chunk_mb, device=table_VD.device)
        queries = [chunk_nD.float() for chunk_nD in queries_ND.split(max(1, rows))]
        chances = [_chances(chunk_nD, items_VD, bias_V) for chunk_nD in queries] if len(queries) == 1 else None
        shown_V = torch.zeros(len(items_VD), device=table_VD.device)
        for nth, chunk_nD in enumerate(queries):
            shown_V += (_chances(chunk_nD, items_VD, bias_V) if chances is None else chances[nth]).sum(0)
        shown_V = current().sum(shown_V)  # of several processes each has some of the batch's targets
        least = torch.finfo(torch.float32).tiny
        shown_O = shown_V.new_zeros(len(due_O) + 1).index_add_(0, owner_V, shown_V)[1:].clamp(min=least)
        total = shown_O.sum()
        loss = (torch.xlogy(due_O, due_O) - due_O * (shown_O / total).log()).sum()
        # d loss / d shown_v: what is due to the owner against what is shown; nothing for nobody's items. A process's
        # loss counts by its targets, so its gradient is of their mean.
        pull_O = torch.cat([due_O.new_zeros(1), 1 / total - due_O / shown_O]) * (shown_V.sum() / len(queries_ND))
        pull_V = pull_O[owner_V]
        grad_table_VD = torch.zeros(table_VD.shape, device=table_VD.device)
        grad_bias_V = None if bias_V is None else torch.zeros(len(table_VD), device=table_VD.device)
        grads = []
        for nth, chunk_nD in enumerate(queries):
            chance_nV = _chances(chunk_nD, items_VD, bias_V) if chances is None else chances[nth]
            grad_nV = chance_nV * (pull_V - (chance_nV @ pull_V)[:, None])
            grads.append(grad_nV @ items_VD)
            grad_table_VD[1:] += grad_nV.T @ chunk_nD
            if grad_bias_V is not None:
                grad_bias_V[1:] += grad_nV.sum(0)
        grad_queries_ND = torch.cat(grads).to(queries_ND.dtype)
        ctx.save_for_backward(grad_queries_ND, grad_table_VD.to(table_VD.dtype), grad_bias_V)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_queries_ND, grad_table_VD, grad_bias_V = ctx.saved_tensors
        scale = grads[0]
        return (
            grad_queries_ND * scale.to(grad_queries_ND.dtype),
            grad_table_VD * scale.to(grad_table_VD.dtype),
            None if grad_bias_V is None else grad_bias_V * scale,
            None,
            None,
            None,
        )


def _chances(queries_nD: Tensor, items_VD: Tensor, bias_V: Tensor | None) -> Tensor:
    scores_nV = queries_nD @ items_VD.T
    return (scores_nV if bias_V is None else scores_nV + bias_V[1:].float()).softmax(dim=1)


def exposure_divergence(
    queries_ND: Tensor, table_VD: Tensor, bias_V: Tensor | None, *, owner_V1: Tensor, due_O: Tensor, chunk_mb: int
) -> Tensor:
    """sum_o t_o log(t_o / e_o) of the mean softmax of the queries, in fp32, in `chunk_mb` of scratch memory.

    `owner_V1` int64 [V + 1]: each item's owner, from 1; 0: nobody's. `due_O`: t, of one.
    """
    with torch.autocast(queries_ND.device.type, enabled=False):
        loss: Tensor = _Divergence.apply(queries_ND, table_VD, bias_V, owner_V1, due_O, chunk_mb)
        return loss


def divergence_scratch_bytes(num_items: int, targets: int, *, chunk_mb: int, device: torch.device) -> int:
    """Memory of the chances of a chunk, and of their gradient."""
    rows = chunk_rows(num_items, FP32_BYTES, chunk_mb, device=device)
    return 2 * min(rows, targets) * num_items * FP32_BYTES
