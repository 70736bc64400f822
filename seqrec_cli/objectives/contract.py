"""What an objective is: from a model and a batch to the number a step minimises.

Legend: B rows, L history events, N training targets, D width, V items, K negatives.
"""

import importlib
from typing import Literal

from torch import Tensor

from seqrec_cli.config.schema import ObjectiveConfig
from seqrec_cli.config.slots import module_name
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender, SequenceEncoder


class Objective:
    """Built as `Objective(cfg)`; stateless between steps."""

    negatives_per_position: int = 0  # windows: how many unmet items the loader draws for every position
    window: Literal["last", "sliding"] = "last"  # windows: which part of a history they cover
    negatives_per_row: int = 0  # prefixes: how many unmet items stand beside each row's positive

    def loss(self, model: Recommender, batch: Batch) -> Tensor:
        """The scalar to minimise (mean over the batch's targets), any auxiliary loss of the model included."""
        raise NotImplementedError


def build_objective(cfg: ObjectiveConfig) -> Objective:
    """The registered objective of that name."""
    module = importlib.import_module(module_name("objective", cfg.name))
    objective: Objective = module.Objective(module.Config(**cfg.model_dump()))
    return objective


def at_targets(model: Recommender, batch: Batch) -> tuple[SequenceEncoder, Tensor, Tensor, Tensor]:
    """The encoder's states [N, D] where there is a target, the targets [N], and where they stand [B, L]."""
    assert isinstance(model, SequenceEncoder)
    assert batch.targets_BL is not None
    real_BL = batch.targets_BL > 0
    return model, model.encode(batch)[real_BL], batch.targets_BL[real_BL], real_BL
