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
    """Built as `Objective(cfg)`, then told of the data by `prepare`; stateless between steps."""

    negatives_per_position: int = 0  # windows: how many unmet items the loader draws for every position
    window: Literal["last", "sliding"] = "last"  # windows: which part of a history they cover
    negatives_per_row: int = 0  # prefixes: how many unmet items stand beside each row's positive

    def prepare(self, counts_V: Tensor) -> None:
        """Called once before the first step, with every item's training events, int64 [V + 1], on the device."""

    def loss(self, model: Recommender, batch: Batch) -> Tensor:
        """The scalar to minimise (mean over the batch's targets), any auxiliary loss of the model included."""
        raise NotImplementedError


def build_objective(cfg: ObjectiveConfig) -> Objective:
    """The registered objective of that name."""
    module = importlib.import_module(module_name("objective", cfg.name))
    objective: Objective = module.Objective(module.Config(**cfg.model_dump()))
    return objective


def at_targets(model: Recommender, batch: Batch) -> tuple[SequenceEncoder, Tensor, Tensor, Tensor]:
    """The encoder's states [N, D] where there is a target, the targets [N], and their places in [B * L]."""
    assert isinstance(model, SequenceEncoder)
    assert batch.targets_BL is not None
    places_N = batch.target_places()
    return model, model.encode(batch).flatten(0, 1)[places_N], batch.targets_BL.flatten()[places_N], places_N
