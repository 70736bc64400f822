"""Knowledge distillation: the next item, and what a trained model says of it (Hinton, Vinyals & Dean 2015, arXiv
1503.02531, equation 1 and section 2).

With the student's scores s, the next item y, the teacher's shares p = softmax(c z / T) of its scores z, and alpha:

  loss = (1 - alpha) CE(y, softmax(s)) + alpha T^2 KL(p || softmax(s / T))

The factor c (`teacher_scale`) is ours: a teacher need not be calibrated, and T softens both sides. Of p the first K
items are kept (`data/soft_targets.py`), and all others are one outcome, the remainder, for the teacher and for the
student. That is the divergence of two distributions over K + 1 outcomes: it is never more than the one over all items
(the log sum inequality), nothing where the two agree, and it tells the student how little the others together are
worth. A softmax over the K items alone, renormalised, would leave it free to put anything on all others.

`next_item=leave_out` takes the next item out of both distributions (the non-target part of Decoupled Knowledge
Distillation, Zhao et al. 2022, arXiv 2203.08679): the teacher has seen in its own training what came here, so what it
says of that item is more than it would know of an event that it has not seen. Where the item is none of the K, its
share of the remainder is taken for nothing.

`soft_targets=ranks` heeds the teacher's order alone, for scores that are no logits: see `SoftTargets.at`.
"""

import torch
from torch import Tensor

from seqrec_cli.config.objective.distil import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import CorpusSoftmaxObjective, at_targets
from seqrec_cli.objectives.losses import chunk_rows
from seqrec_cli.objectives.soft_losses import Soft, distilled_cross_entropy


class Objective(CorpusSoftmaxObjective):
    """Mean over the batch's targets; without gradients, as on validation, the next item's cross-entropy alone."""

    reads_soft_targets = True

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.alpha, self.leave_out = cfg.alpha, cfg.next_item == "leave_out"
        self.temperature = 1.0 if cfg.soft_targets == "ranks" else cfg.temperature

    def target_loss(self, model: Recommender, batch: Batch) -> Tensor:
        if batch.soft_items_BLK is None or batch.soft_shares_BLK is None:
            if torch.is_grad_enabled():
                raise RuntimeError("objective=distil was given training rows without the teacher's soft targets")
            return super().target_loss(model, batch)
        at = at_targets(model, batch, window=self.window)
        rows_N = at.positions_N
        if self.window == "prefixes":  # whose rows have the last event's alone
            rows_N = rows_N.div(batch.items_BL.shape[1], rounding_mode="floor")
        items_NK, shares_NK = (
            soft_BLK.flatten(0, 1).index_select(0, rows_N) for soft_BLK in (batch.soft_items_BLK, batch.soft_shares_BLK)
        )
        if self.leave_out:
            shares_NK = without_next(items_NK, shares_NK, at.targets_N)
        return distilled_cross_entropy(
            at.queries_ND,
            at.encoder.item_table(),
            at.targets_N,
            soft=Soft(items_NK, shares_NK, self.alpha, self.temperature, self.leave_out),
            chunk_mb=self.chunk_mb,
            bias_V=at.encoder.item_bias(),
            label_smoothing=self.smoothing,
            weights_N=at.weights_N,
        )

    def scratch_bytes(self, num_items: int, targets: int, *, dtype: torch.dtype, device: torch.device) -> int:
        rows = chunk_rows(num_items, dtype.itemsize, max(1, self.chunk_mb // 2), device=device)
        return 2 * min(rows, targets) * num_items * dtype.itemsize  # both softmaxes


def without_next(items_NK: Tensor, shares_NK: Tensor, targets_N: Tensor) -> Tensor:
    """The shares without the next item's, as shares of what is then left."""
    is_next_NK = items_NK == targets_N[:, None]
    left_N1 = 1 - (shares_NK * is_next_NK).sum(1, keepdim=True)
    return shares_NK.masked_fill(is_next_NK, 0) / left_N1.clamp(min=torch.finfo(torch.float32).eps)
