"""Click prediction: an event that followed a history is clicked, sampled unmet items are not.

The binary cross-entropy of DIN (Zhou et al. 2018, arXiv 1706.06978, eq. 2) and BST. Encoders may be trained by it too.
"""

from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from seqrec_cli.config.schema import ObjectiveConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives import contract


class Config(ObjectiveConfig):
    """Sigmoid of labelled candidates."""

    families: ClassVar[frozenset[str]] = frozenset({"encoder", "ranker"})
    rows: ClassVar[Literal["windows", "prefixes", "none"]] = "prefixes"
    sparse_rows: ClassVar[bool] = True

    negatives: int = Field(ge=1, description="unmet items beside each positive")
    positions: bool = Field(
        description="several targets of a user in one row where the model allows it, their common history read once; "
        "false: one row a target"
    )


class Objective(contract.Objective):
    """Mean over the labelled candidates of the batch; a candidate of 0 (none) counts nothing."""

    def __init__(self, cfg: Config) -> None:
        self.negatives_per_row = cfg.negatives
        self.positions = cfg.positions

    def loss(self, model: Recommender, batch: Batch) -> Tensor:
        assert batch.candidates_BC is not None
        assert batch.labels_BC is not None
        if batch.ends_BC is None:
            logits_BC = model.score(batch, batch.candidates_BC).float()
        else:
            logits_BC = model.score_positions(batch, batch.candidates_BC, batch.ends_BC).float()
        present_BC = (batch.candidates_BC > 0).float()
        losses_BC = F.binary_cross_entropy_with_logits(logits_BC, batch.labels_BC, reduction="none")
        loss = (losses_BC * present_BC).sum() / present_BC.sum()
        auxiliary = model.auxiliary_loss()
        return loss if auxiliary is None else loss + auxiliary
