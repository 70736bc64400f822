"""Click prediction: an event that followed a history is clicked, sampled unseen items are not.

The binary cross-entropy of DIN (Zhou et al. 2018, arXiv 1706.06978, eq. 2) and BST. Encoders may be trained by it too.
Label smoothing (Szegedy et al. 2016, arXiv 1512.00567) and a weight of the positive label are options beside it.
"""

import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.config.objective.click import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives import contract


class Objective(contract.Objective):
    """Mean over the labelled candidates of the batch; a candidate of 0 (none) counts nothing."""

    def __init__(self, cfg: Config) -> None:
        self.negatives_per_row = cfg.negatives
        self.positions = cfg.positions
        self.smoothing, self.positive_weight = cfg.smoothing, cfg.positive_weight
        self.redraw = cfg.redraw

    def target_loss(self, model: Recommender, batch: Batch) -> Tensor:
        assert batch.candidates_BC is not None
        assert batch.labels_BC is not None
        if batch.ends_BC is None:
            logits_BC = model.score(batch, batch.candidates_BC).float()
        else:
            logits_BC = model.score_positions(batch, batch.candidates_BC, batch.ends_BC).float()
        present_BC = (batch.candidates_BC > 0).float()
        losses_BC = self.losses_of_candidates(logits_BC, batch.labels_BC)
        if batch.weights_BC is not None:
            losses_BC = losses_BC * batch.weights_BC
        return (losses_BC * present_BC).sum() / present_BC.sum()

    def losses_of_candidates(self, logits_BC: Tensor, labels_BC: Tensor) -> Tensor:
        """-w y log s - (1 - y) log(1 - s), s the sigmoid of the logit, y the smoothed label, w the positive weight."""
        if self.smoothing:
            labels_BC = labels_BC * (1 - self.smoothing) + self.smoothing / 2
        weight = None if self.positive_weight == 1 else logits_BC.new_full((), self.positive_weight)
        return F.binary_cross_entropy_with_logits(logits_BC, labels_BC, reduction="none", pos_weight=weight)
