"""Targets that count by how well the model does on known items.

"As items in the sequences are just hidden instead of being unknown in the model training phase, the prediction accuracy
or the self-attention layer generated embedding quality of known items in a sequence could be used for adjusting the
weights for the next item prediction" (Huang, section 4.1, without equations or experiments). Three readings, each a
quality q_t of the target at position t, from the step's own states (dropout included) and without a gradient:

    running         the decayed mean of l_k over the targets k < t, which are the known items of t's history:
                    sum over k < t of decay^(t-1-k) l_k / sum over k < t of decay^(t-1-k)
    leave_one_out   the mean of l_k over all targets k != t of the row, later ones too: hidden, and not unknown
    agreement       cos(x_t, e_t) of the layers' output at the event before the target and that event's item vector

where l_k is the log of target k's probability among all items, whatever the objective's loss is. The weight is

    w_t = sigmoid(sharpness z_t) / mean,   z_t = (q_t - mean q) / deviation of q

over the batch's targets; z is 0 where nothing is known (a row's first target, or its only one) or all are alike. So
weights are at most 1 / mean of the sigmoids (about 2), and their mean over the batch is 1. With weights v_t of events
of the data, a target counts v_t w_t, and the mean that is 1 is that of w weighed by v: the loss keeps its scale.
In evaluation all targets count as without.

Legend: B rows, L positions, N targets, n targets of a chunk, V items, D width.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.config.objective import KnownItemsConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import full_precision
from seqrec_cli.objectives.losses import product_dtype
from seqrec_cli.processes import current

if TYPE_CHECKING:
    from seqrec_cli.models.contract import SequenceEncoder

CHUNK = 2**22  # scores made at once


class KnownItems:
    """Built from settings with `known` other than none."""

    def __init__(self, cfg: KnownItemsConfig) -> None:
        self.kind, self.decay, self.sharpness = cfg.known, cfg.known_decay, cfg.known_sharpness

    @torch.no_grad()
    def weights(
        self,
        encoder: "SequenceEncoder",
        batch: Batch,
        queries_ND: Tensor,
        *,
        targets_N: Tensor,
        positions_N: Tensor,
        weights_N: Tensor | None,
    ) -> Tensor | None:
        """What each target counts: `weights_N` (the data's; None: 1) times its own; `weights_N` in evaluation."""
        if not encoder.training:
            return weights_N
        with full_precision(queries_ND.device):
            at = {"targets_N": targets_N, "positions_N": positions_N}
            quality_N, known_N = self.qualities(encoder, batch, queries_ND, **at)
            return scaled_weights(quality_N, known_N, self.sharpness, weights_N=weights_N)

    def qualities(
        self, encoder: "SequenceEncoder", batch: Batch, queries_ND: Tensor, *, targets_N: Tensor, positions_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        """q of each target, and whether there is anything known it is of."""
        if self.kind == "agreement":
            events_N = batch.items_BL.flatten()[positions_N]
            cosines_N = F.cosine_similarity(queries_ND.float(), encoder.item_vectors(events_N).float(), dim=-1)
            return cosines_N, torch.ones_like(targets_N, dtype=torch.bool)
        logs_N = log_probabilities(encoder, queries_ND, targets_N)
        B, L = batch.items_BL.shape
        logs_BL = logs_N.new_zeros(B * L).index_copy(0, positions_N, logs_N).view(B, L)
        taught_BL = logs_N.new_zeros(B * L).index_fill(0, positions_N, 1.0).view(B, L)
        if self.kind == "running":
            shares_LL = running_shares(L, self.decay, logs_BL)
            sums_BL, counts_BL = logs_BL @ shares_LL, taught_BL @ shares_LL
        else:
            sums_BL, counts_BL = (x.sum(1, keepdim=True) - x for x in (logs_BL, taught_BL))
        sums_N, counts_N = (x.flatten()[positions_N] for x in (sums_BL, counts_BL))
        known_N = counts_N > 0
        return torch.where(known_N, sums_N / counts_N.where(known_N, 1.0), 0.0), known_N


def running_shares(length: int, decay: float, like: Tensor) -> Tensor:
    """[L, L]: what the target at a position (first axis) counts in the running sum of a later one (second axis)."""
    places_L = torch.arange(length, device=like.device)
    steps_LL = places_L - places_L[:, None] - 1
    return torch.where(steps_LL >= 0, decay ** steps_LL.clamp(min=0).to(like.dtype), 0.0)


def log_probabilities(encoder: "SequenceEncoder", queries_ND: Tensor, targets_N: Tensor) -> Tensor:
    """The log of each target's probability among all items [N], in chunks; products in autocast's format."""
    dtype, table_VD, bias_V = product_dtype(queries_ND.device), encoder.item_table(), encoder.item_bias()
    keys_DV = table_VD[1:].to(dtype).T
    found = []
    for first in range(0, len(queries_ND), max(1, CHUNK // keys_DV.shape[1])):
        here = slice(first, first + max(1, CHUNK // keys_DV.shape[1]))
        scores_nV = (queries_ND[here].to(dtype) @ keys_DV).float()
        scores_nV = scores_nV if bias_V is None else scores_nV + bias_V[1:].float()
        own_n = scores_nV.gather(1, targets_N[here, None] - 1)[:, 0]
        found.append(own_n - scores_nV.logsumexp(1))
    return torch.cat(found) if found else queries_ND.new_zeros(0, dtype=torch.float32)


def scaled_weights(quality_N: Tensor, known_N: Tensor, sharpness: float, *, weights_N: Tensor | None = None) -> Tensor:
    """The weights of qualities, times `weights_N`; of several processes that share a batch, over all its targets."""
    known_N = known_N.to(quality_N.dtype)
    count, total = current().sum(torch.stack([known_N.sum(), (known_N * quality_N).sum()]))
    away_N = known_N * (quality_N - total / count.clamp(min=1))
    variance = current().sum((away_N * away_N).sum()) / count.clamp(min=1)
    own_N = torch.sigmoid(sharpness * away_N / variance.sqrt().clamp(min=1e-6))
    given_N = torch.ones_like(own_N) if weights_N is None else weights_N.to(own_N.dtype)
    whole, weighed = current().sum(torch.stack([given_N.sum(), (given_N * own_N).sum()]))
    return given_N * own_N * (whole / weighed.clamp(min=torch.finfo(weighed.dtype).tiny))
