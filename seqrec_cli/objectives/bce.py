"""Next item at every position, binary cross-entropy against sampled negatives.

SASRec as published (Kang & McAuley 2018, arXiv 1808.09781, eq. 7) takes one negative for every position, uniform
over the items the user has not met in training. With K negatives their terms are summed.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from seqrec_cli.config.schema import WindowObjectiveConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives import contract
from seqrec_cli.objectives.losses import binary_cross_entropy


class Config(WindowObjectiveConfig):
    """Sigmoid of target and negatives."""

    sparse_rows: ClassVar[bool] = True

    negatives: int = Field(ge=1, description="unmet items drawn for every position")


class Objective(contract.Objective):
    """Mean over the targets of the batch."""

    def __init__(self, cfg: Config) -> None:
        self.window, self.stride = cfg.window, cfg.stride
        self.negatives_per_position = cfg.negatives

    def loss(self, model: Recommender, batch: Batch) -> Tensor:
        encoder, queries_ND, targets_N, places_N = contract.at_targets(model, batch)
        assert batch.negatives_BLK is not None
        negatives_NK = batch.negatives_BLK.flatten(0, 1)[places_N]
        queries_ND, positives_ND, negatives_NKD = contract.to_score(encoder, queries_ND, targets_N, negatives_NK)
        return binary_cross_entropy(queries_ND, positives_ND, negatives_NKD, negatives_NK > 0)
