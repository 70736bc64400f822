"""Integrated gradients over the events' item vectors (Sundararajan, Taly & Yan 2017, arXiv 1703.01365).

Eq. 1 for the score F and the events' vectors x_1 ... x_L, from the baseline x' = 0, what padding has:

    a_l = sum over coordinates d of  x_ld  integral over alpha in [0, 1] of  dF(alpha x) / dx_ld

With one factor s_l on each event's vector (`Batch.presence_BL`) the chain rule makes that sum the derivative by the
factor: a_l = integral of dF / ds_l at s = (alpha, ..., alpha). So L numbers are differentiated, not L x D.
Positions, times, context and the user stay as they are: what is attributed is which items the events were.

Completeness (their proposition 1): sum_l a_l = F(x) - F(x'). It is checked: the integral is taken with more points
until the gap is small enough, or else refused. Deviation: their sum has equal steps; a layer norm turns the whole way
near alpha = 0, so here alpha = t^4 and t has the points of Gauss and Legendre.

Legend: P points, L events, C items.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.devices import widest_float
from seqrec_cli.models.contract import Recommender, full_precision
from seqrec_cli.serving.attribution.removal import repeated

FIRST = 16  # points to begin with; doubled while the gap is too large
POWER = 4


class Path(NamedTuple):
    """How closely the integral may be taken."""

    gap: float  # the largest |sum of attributions - (score - baseline)|, as a share of sum |attribution|
    points: int  # at most


class Integrated(NamedTuple):
    """Attributions [L, C], scores [C], the baseline's scores [C], gaps [C] as shares, and the points it took."""

    weights_LC: Tensor
    scores_C: Tensor
    baselines_C: Tensor
    gaps_C: Tensor
    points: int


def integrated_gradients(
    model: Recommender, batch: Batch, items_C: Tensor, *, path: Path, rows_at_once: int
) -> Integrated:
    """Of a batch of one row. Raises SeqrecError where the gap of completeness stays above `path.gap`."""
    points = min(FIRST, path.points)
    while True:
        found = _integrated(model, batch, items_C, points=points, rows_at_once=rows_at_once)
        worst = float(found.gaps_C.max())
        if worst <= path.gap:
            return found
        if points >= path.points:
            raise SeqrecError(
                f"integrated gradients: the attributions miss the score minus its baseline by {worst:.1%} with "
                f"{points} points (gap={path.gap:g} is allowed); raise points, or take method=leave_one_out"
            )
        points = min(2 * points, path.points)


def _integrated(model: Recommender, batch: Batch, items_C: Tensor, *, points: int, rows_at_once: int) -> Integrated:
    nodes_P, weights_P = np.polynomial.legendre.leggauss(points)
    nodes_P = (nodes_P + 1) / 2
    device, wide = batch.items_BL.device, widest_float(batch.items_BL.device)
    alphas_P = torch.tensor(np.concatenate([nodes_P**POWER, [0.0, 1.0]]), dtype=torch.float32, device=device)
    steps_P = torch.tensor(weights_P / 2 * POWER * nodes_P ** (POWER - 1), dtype=wide, device=device)
    gradients_PLC, scores_PC = [], []
    for part_P in alphas_P.split(rows_at_once):
        each = _gradients(model, batch, items_C, alphas_P=part_P)
        gradients_PLC.append(each[0])
        scores_PC.append(each[1])
    baselines_C, scores_C = torch.cat(scores_PC)[-2:]
    weights_LC = torch.einsum("p,plc->lc", steps_P, torch.cat(gradients_PLC)[:-2].to(wide))
    missed_C = (weights_LC.sum(0) - (scores_C.to(wide) - baselines_C.to(wide))).abs()
    # Of an item whose events cancel each other out the score moves little: the gap is a share of what is attributed.
    whole_C = weights_LC.abs().sum(0).maximum((scores_C - baselines_C).abs().to(wide))
    rounding_C = 1e-5 * scores_C.abs().to(wide).clamp(min=1e-3)  # of fp32 scores: no gap where nothing moves
    gaps_C = (missed_C - rounding_C).clamp(min=0) / whole_C.clamp(min=1e-12)
    return Integrated(weights_LC.float(), scores_C, baselines_C, gaps_C.float(), points)


def _gradients(model: Recommender, batch: Batch, items_C: Tensor, *, alphas_P: Tensor) -> tuple[Tensor, Tensor]:
    """(dF / ds [P, L, C], F [P, C]) at these points of the path."""
    P, L, C = len(alphas_P), batch.items_BL.shape[1], len(items_C)
    with torch.inference_mode(False), torch.enable_grad(), full_precision(alphas_P.device):
        presence_PL = alphas_P[:, None].repeat(1, L).requires_grad_(True)
        rows = repeated(batch, P)
        scores_PC = model.score(_with(rows, presence_PL), items_C.clone().expand(P, C)).float()
        each = [torch.autograd.grad(scores_PC[:, c].sum(), presence_PL, retain_graph=c + 1 < C)[0] for c in range(C)]
    return torch.stack(each, dim=-1), scores_PC.detach()


def _with(batch: Batch, presence_BL: Tensor) -> Batch:
    """A copy that autograd may keep, with so much of each event."""
    every = {name: tensor.clone() for name, tensor in vars(batch).items() if tensor is not None}
    return Batch(**every | {"presence_BL": presence_BL})
