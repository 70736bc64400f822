"""Losses over targets and sampled negatives: scores in chunks, and the gradient made in the same pass.

No copy of a vector is made for a pair of position and negative where one product can score them all.

Legend: G groups that share negatives (1, or a sequence each), M positions of a group, g and m those of one chunk;
N positions with negatives of their own, n those of one chunk; K negatives, C = 1 + K scores, the target's first;
D width, X rows of a table that negatives are looked up in.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqrec_cli.objectives.losses import product_dtype

CHUNK = 2**20  # scores of one chunk: the passes over them stay in cache
GPU_CHUNK = 2**25  # on a GPU: large enough that launches cost nothing beside the work
# With negatives of its own a position is scored against the whole table, and its negatives picked, while the table
# has at most this many rows a negative: a product of matrices outruns gathering vectors by far.
TABLE_ROWS_A_NEGATIVE = 64

# What a target's score and its negatives' scores cost. A criterion takes fp32 scores [..., 1 + K], the target's first
# and -inf for negatives that do not count. It returns the losses [...] and writes their gradient over the scores: one
# buffer, and nothing kept for a backward pass.
Criterion = Callable[[Tensor], Tensor]


def softmax(scores: Tensor) -> Tensor:
    """-log of the target's share of the sum of exponents. Saturates at 87 nats; its gradient does not."""
    torch.softmax(scores, dim=-1, out=scores)
    own = scores[..., 0]
    losses = -own.clamp(min=torch.finfo(torch.float32).tiny).log()
    own.sub_(1)
    return losses


def sigmoid(beta: float, share: float) -> Criterion:
    """share x (-beta log s(target) - sum over negatives of log(1 - s(negative))), s the logistic function.

    With beta 1 the binary cross-entropy. log s(x)^beta is beta log s(x), a softplus: nothing here needs the double
    precision of the authors' code, which makes a logit of s(x)^beta first.
    """

    def criterion(scores: Tensor) -> Tensor:
        own, others = scores[..., 0], scores[..., 1:]
        losses = F.softplus(others).sum(-1).add_(F.softplus(-own), alpha=beta)
        scores.sigmoid_()
        own.sub_(1).mul_(beta)
        scores.mul_(share)
        return losses.mul_(share)

    return criterion


def pairwise(scores: Tensor) -> Tensor:
    """The mean over negatives of -log s(target - negative), s the logistic function."""
    own, others = scores[..., :1], scores[..., 1:]
    others.sub_(own)
    losses = F.softplus(others).mean(-1)
    others.sigmoid_().div_(others.shape[-1])
    own.copy_(others.sum(-1, keepdim=True).neg_())
    return losses


class _SharedNegatives(torch.autograd.Function):
    """Forward runs in chunks and forms the gradient in the same pass, as the softmax over the corpus does."""

    @staticmethod
    def forward(
        ctx: Any,
        criterion: Criterion,
        queries_GMD: Tensor,
        positives_GMD: Tensor,
        vectors_GKD: Tensor,
        targets_GM: Tensor,
        negatives_GK: Tensor,
        log_expected_GK: Tensor | None,
        log_target_GM: Tensor | None,
        weights_GM: Tensor | None,
    ) -> Tensor:
        device, dtype = queries_GMD.device, product_dtype(queries_GMD.device)
        keys_GKD, real_GM = vectors_GKD.to(dtype), targets_GM > 0
        targets_GM1, negatives_G1K = targets_GM[:, :, None].int(), negatives_GK[:, None].int()
        grad_queries_GMD, grad_positives_GMD = torch.empty_like(queries_GMD), torch.empty_like(positives_GMD)
        grad_vectors_GKD = torch.zeros(vectors_GKD.shape, device=device)
        share = 1 / real_GM.sum().clamp(min=1)  # of each position in the mean
        counted_GM = real_GM if weights_GM is None else weights_GM * real_GM
        loss = torch.zeros((), device=device)
        with torch.autocast(device.type, enabled=False):
            for g, m in chunks(
                len(targets_GM), targets_GM.shape[1], negatives_GK.shape[1], scores=chunk_scores(device)
            ):
                queries_gmD, positives_gmD = queries_GMD[g, m].float(), positives_GMD[g, m].float()
                products_gmD = queries_GMD[g, m].to(dtype)
                offset = None if log_expected_GK is None else log_expected_GK[g, None]
                own = None if log_target_GM is None else log_target_GM[g, m]
                out = (targets_GM1[g, m] == negatives_G1K[g]) if own is None else None
                scores_gmC = joined(
                    queries_gmD, positives_gmD, products_gmD @ keys_GKD[g].mT, offset=offset, own=own, out=out
                )
                losses_gm = criterion(scores_gmC)
                loss += ((losses_gm if own is None else losses_gm - own) * counted_GM[g, m]).sum()
                weight_gm1 = counted_GM[g, m, None] * share
                away_gm1, others_gmK = scores_gmC[..., :1] * weight_gm1, scores_gmC[..., 1:].to(dtype)
                grad_positives_GMD[g, m] = away_gm1 * queries_gmD
                grad_queries_GMD[g, m] = (others_gmK @ keys_GKD[g]) * weight_gm1 + away_gm1 * positives_gmD
                # The weights go with the queries: no pass over the scores.
                grad_vectors_GKD[g] += others_gmK.mT @ (queries_gmD * weight_gm1).to(dtype)
        ctx.save_for_backward(grad_queries_GMD, grad_positives_GMD, grad_vectors_GKD.to(vectors_GKD.dtype))
        return loss * share

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *scaled(ctx.saved_tensors, grads[0]), None, None, None, None, None)


class _OwnNegatives(torch.autograd.Function):
    """The same where each position has negatives of its own, rows of one table."""

    @staticmethod
    def forward(
        ctx: Any,
        criterion: Criterion,
        queries_ND: Tensor,
        positives_ND: Tensor,
        table_XD: Tensor,
        rows_NK: Tensor,
        out_NK: Tensor | None,
        log_expected_NK: Tensor | None,
        log_target_N: Tensor | None,
        whole: bool,
        weights_N: Tensor | None,
    ) -> Tensor:
        device, dtype = queries_ND.device, product_dtype(queries_ND.device)
        keys_XD, (N, K), X = table_XD.to(dtype), rows_NK.shape, len(table_XD)
        grad_queries_ND, grad_positives_ND = torch.empty_like(queries_ND), torch.empty_like(positives_ND)
        grad_table_XD = torch.zeros(table_XD.shape, device=device)
        loss = torch.zeros((), device=device)
        with torch.autocast(device.type, enabled=False):
            for _, n in chunks(1, N, X if whole else K * keys_XD.shape[1], scores=chunk_scores(device)):
                queries_nD, positives_nD = queries_ND[n].float(), positives_ND[n].float()
                products_nD, rows_nK = queries_ND[n].to(dtype), rows_NK[n]
                if whole:
                    scores_nK = (products_nD @ keys_XD.T).gather(1, rows_nK)
                else:
                    vectors_nKD = keys_XD[rows_nK]
                    scores_nK = (vectors_nKD @ products_nD[:, :, None])[..., 0]
                offset = None if log_expected_NK is None else log_expected_NK[n]
                own = None if log_target_N is None else log_target_N[n]
                out = None if out_NK is None else out_NK[n]
                scores_nC = joined(queries_nD, positives_nD, scores_nK, offset=offset, own=own, out=out)
                losses_n = criterion(scores_nC)
                losses_n = losses_n if own is None else losses_n - own
                loss += losses_n.sum() if weights_N is None else weights_N[n] @ losses_n
                scores_nC /= N
                if weights_N is not None:
                    scores_nC *= weights_N[n, None]
                away_n1, others_nK = scores_nC[:, :1], scores_nC[:, 1:]
                grad_positives_ND[n] = away_n1 * queries_nD
                if whole:
                    others_nX = torch.zeros(len(others_nK), X, device=device).scatter_add_(1, rows_nK, others_nK)
                    pulls_nX = others_nX.to(dtype)
                    grad_queries_ND[n] = pulls_nX @ keys_XD + away_n1 * positives_nD
                    grad_table_XD += pulls_nX.T @ products_nD
                else:
                    pulls_nK = others_nK.to(dtype)
                    grad_queries_ND[n] = (pulls_nK[:, None] @ vectors_nKD)[:, 0] + away_n1 * positives_nD
                    pulls_nKD = others_nK[..., None] * queries_nD[:, None]
                    grad_table_XD.index_add_(0, rows_nK.flatten(), pulls_nKD.flatten(0, 1))
        ctx.save_for_backward(grad_queries_ND, grad_positives_ND, grad_table_XD.to(table_XD.dtype))
        return loss / N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *scaled(ctx.saved_tensors, grads[0]), None, None, None, None, None, None)


def scored_whole(num_items: int, negatives: int) -> bool:
    """True where a position with negatives of its own is scored against all items."""
    return num_items <= TABLE_ROWS_A_NEGATIVE * negatives


def joined(
    queries: Tensor,
    positives: Tensor,
    products: Tensor,
    *,
    offset: Tensor | None,
    own: Tensor | None,
    out: Tensor | None,
) -> Tensor:
    """Scores fp32 [..., 1 + K]: the target's less `own`, then the negatives' less `offset`, -inf where `out`.

    Without `own` the target is taken to be there with certainty: its expected count is 1.
    """
    scores = products.new_empty((*products.shape[:-1], products.shape[-1] + 1), dtype=torch.float32)
    torch.sum(queries * positives, dim=-1, out=scores[..., 0])
    if own is not None:
        scores[..., 0].sub_(own)
    others = scores[..., 1:]
    if offset is None:
        others.copy_(products)
    else:
        torch.sub(products, offset, out=others)
    if out is not None:
        others.masked_fill_(out, -torch.inf)
    return scores


def scaled(gradients: tuple[Tensor, ...], scale: Tensor) -> Iterator[Tensor]:
    """In place: the node is used once."""
    return (gradient.mul_(scale.to(gradient.dtype)) for gradient in gradients)


def chunk_scores(device: torch.device) -> int:
    """Scores made at once."""
    return CHUNK if device.type == "cpu" else GPU_CHUNK


def chunks(groups: int, rows: int, columns: int, *, scores: int) -> Iterator[tuple[slice, slice]]:
    """Whole groups while they fit, else some rows of one."""
    size = max(1, scores // max(1, rows * columns))
    height = rows if size > 1 else max(1, min(rows, scores // columns))
    for group in range(0, groups, size):
        for row in range(0, rows, max(1, height)):
            yield slice(group, group + size), slice(row, row + height)


def loss_with_shared_negatives(
    criterion: Criterion,
    queries_GMD: Tensor,
    positives_GMD: Tensor,
    *,
    vectors_GKD: Tensor,
    targets_GM: Tensor,
    negatives_GK: Tensor,
    log_expected_GK: Tensor | None = None,
    log_target_GM: Tensor | None = None,
    weights_GM: Tensor | None = None,
) -> Tensor:
    """Mean of the criterion (times `weights_GM`) over real targets (> 0), each beside its group's negatives.

    Scores are inner products, those of negatives less `log_expected_GK`: the softmax is then that of importance
    sampling (Bengio & Senecal, IEEE TNN 19(4), 2008), whose sum over negatives is an unbiased estimate of the sum
    over all other items, and the loss tends to the full softmax as K grows. With `log_target_GM` off the targets'
    scores it is the sampled softmax of Jean et al. (arXiv 1412.2007, eq. 8): the target among draws of which it is one.
    The full softmax's best model then has the least loss at any K (Ma & Collins, arXiv 1809.01812, ranking objective).
    The same is taken off the losses, a constant, so that they too tend to the full softmax's. A negative that equals
    the target of a position is left out there, but not with `log_target_GM`: it is a draw like others. Products run
    in autocast's format, the rest in fp32.
    """
    loss: Tensor = _SharedNegatives.apply(
        criterion,
        queries_GMD,
        positives_GMD,
        vectors_GKD,
        targets_GM,
        negatives_GK,
        log_expected_GK,
        log_target_GM,
        weights_GM,
    )
    return loss


def loss_with_own_negatives(
    criterion: Criterion,
    queries_ND: Tensor,
    positives_ND: Tensor,
    *,
    table_XD: Tensor,
    rows_NK: Tensor,
    out_NK: Tensor | None,
    log_expected_NK: Tensor | None,
    whole: bool,
    log_target_N: Tensor | None = None,
    weights_N: Tensor | None = None,
) -> Tensor:
    """The same where each position has its own negatives: `rows_NK` of the table, without those in `out_NK`.

    `whole`: by one product with all rows, else by looking each negative's vector up.
    """
    loss: Tensor = _OwnNegatives.apply(
        criterion,
        queries_ND,
        positives_ND,
        table_XD,
        rows_NK,
        out_NK,
        log_expected_NK,
        log_target_N,
        whole,
        weights_N,
    )
    return loss
