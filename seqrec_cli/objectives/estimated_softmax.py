"""A softmax over the whole corpus, or an estimate of it that no catalogue slows down.

With `negatives`, each target stands beside items drawn for the batch, half of them from its targets and half from all
items alike (mixed negative sampling, Yang et al., WWW 2020 companion), each less the log of how often it is expected:
the sum over them estimates that over all other items (`sampled_losses`). Items without training events are drawn too,
so that they do not stay where they began, above those that training has pushed down.
"""

import torch
from torch import Tensor

from seqrec_cli.config.objective import EstimatedSoftmaxConfig, KnownItemsConfig
from seqrec_cli.config.objective.sampled_softmax import Config as SampledConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives import sampled_softmax
from seqrec_cli.objectives.contract import CorpusSoftmaxObjective


class EstimatedSoftmax(CorpusSoftmaxObjective):
    """Mean cross-entropy of the batch's targets among all items."""

    def __init__(self, cfg: EstimatedSoftmaxConfig) -> None:
        super().__init__(cfg)
        self.estimate = None if cfg.negatives is None else sampled_softmax.Objective(_sampled(cfg, cfg.negatives))

    def prepare(self, counts_V: Tensor) -> None:
        if self.estimate is not None:
            self.estimate.prepare(counts_V)

    def drawn(self, batch: Batch) -> Batch:
        return batch if self.estimate is None else self.estimate.drawn(batch)

    def target_loss(self, model: Recommender, batch: Batch) -> Tensor:
        if self.estimate is not None:
            return self.estimate.target_loss(model, batch)
        return super().target_loss(model, batch)

    def scratch_bytes(self, num_items: int, targets: int, *, dtype: torch.dtype, device: torch.device) -> int:
        if self.estimate is not None:
            return self.estimate.scratch_bytes(num_items, targets, dtype=dtype, device=device)
        return super().scratch_bytes(num_items, targets, dtype=dtype, device=device)


def _sampled(cfg: EstimatedSoftmaxConfig, negatives: int) -> SampledConfig:
    by_known = cfg if isinstance(cfg, KnownItemsConfig) else None
    return SampledConfig(
        name="sampled_softmax",
        window=cfg.window,
        stride=cfg.stride,
        scheduled_sampling="none",  # this one's own is done before
        scheduled_epochs=cfg.scheduled_epochs,
        scheduled_least=cfg.scheduled_least,
        negatives=negatives,
        shared="batch",
        sampling="mixed",
        uniform_share=0.5,
        pool=1,
        memory=1,
        log_q="negatives",
        known="none" if by_known is None else by_known.known,
        known_decay=1.0 if by_known is None else by_known.known_decay,
        known_sharpness=1.0 if by_known is None else by_known.known_sharpness,
    )
