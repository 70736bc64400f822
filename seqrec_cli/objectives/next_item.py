"""Next item at every position, softmax over the whole corpus.

The SASRec+ objective (Klenitskiy & Vasilev 2023, arXiv 2309.07602), here without the B x L x V logits. With
`owner_weight` also how far the owners of items are from being shown in proportion (`owner_exposure.py`); at 0 it is
nothing, and without gradients, as on validation, the cross-entropy is alone.
"""

import torch
from torch import Tensor

from seqrec_cli.config.objective.next_item import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.owners import Owners
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import at_targets
from seqrec_cli.objectives.estimated_softmax import EstimatedSoftmax
from seqrec_cli.objectives.owner_exposure import divergence_scratch_bytes, exposure_divergence


class Objective(EstimatedSoftmax):
    """Mean cross-entropy over all targets of the batch."""

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.owner_weight = cfg.owner_weight

    def read_log(self, log: PackedLog, device: torch.device) -> None:
        if self.owner_weight:
            owners = Owners.of(log, otherwise=", or objective.owner_weight=0")
            self.owner_V1 = torch.from_numpy(owners.of_items_V1).to(device)
            self.due_O = torch.from_numpy(owners.target_O).to(device, torch.float32)

    def target_loss(self, model: Recommender, batch: Batch) -> Tensor:
        if not self.owner_weight or not torch.is_grad_enabled():
            return super().target_loss(model, batch)
        at = at_targets(model, batch, window=self.window, known=self.known)
        loss = self.cross_entropy(at.encoder, at.queries_ND, at.targets_N, weights_N=at.weights_N)
        return loss + self.owner_weight * exposure_divergence(
            at.queries_ND,
            at.encoder.item_table(),
            at.encoder.item_bias(),
            owner_V1=self.owner_V1,
            due_O=self.due_O,
            chunk_mb=self.chunk_mb,
        )

    def scratch_bytes(self, num_items: int, targets: int, *, dtype: torch.dtype, device: torch.device) -> int:
        found = super().scratch_bytes(num_items, targets, dtype=dtype, device=device)
        if not self.owner_weight:
            return found
        return max(found, divergence_scratch_bytes(num_items, targets, chunk_mb=self.chunk_mb, device=device))
