"""Next item at every position, softmax over the target and sampled negatives: a step that no catalogue slows down.

Negatives are items of the corpus, met or not: with the log-q correction they stand for all others (see
`sampled_losses`).
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from seqrec_cli.config.schema import WindowObjectiveConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender, SequenceEncoder
from seqrec_cli.objectives import contract
from seqrec_cli.objectives.sampled_losses import (
    PopularitySampler,
    Sampler,
    UniformSampler,
    sampled_cross_entropy,
)


class Config(WindowObjectiveConfig):
    """Softmax over target and negatives."""

    sparse_rows: ClassVar[bool] = True

    negatives: int = Field(ge=1, description="items drawn, with replacement, for each batch or sequence")
    shared: Literal["batch", "sequence"] = Field(description="who shares negatives: all targets, or one history's")
    sampling: Literal["uniform", "popularity"] = Field(
        description="how negatives are drawn: every item alike, or by its number of training events"
    )


class Objective(contract.Objective):
    """Mean over all targets of the batch."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.window, self.stride = cfg.window, cfg.stride
        self.sampler: Sampler | None = None

    def prepare(self, counts_V: Tensor) -> None:
        popular = self.cfg.sampling == "popularity"
        self.sampler = PopularitySampler(counts_V) if popular else UniformSampler(len(counts_V) - 1)

    def loss(self, model: Recommender, batch: Batch) -> Tensor:
        assert self.sampler is not None, "prepare() comes before the first step"
        assert isinstance(model, SequenceEncoder)
        assert batch.targets_BL is not None
        if self.cfg.shared == "batch":
            _, queries_ND, targets_N, _ = contract.at_targets(model, batch)
            queries_GMD, targets_GM = queries_ND[None], targets_N[None]
        else:
            queries_GMD, targets_GM = model.encode(batch), batch.targets_BL
        negatives_GK = self.sampler.draw(len(targets_GM), self.cfg.negatives, targets_GM.device)
        with torch.no_grad():
            log_expected_GK = self.sampler.log_expected(negatives_GK)
        queries_GMD, positives_GMD, vectors_GKD = contract.to_score(model, queries_GMD, targets_GM, negatives_GK)
        return sampled_cross_entropy(queries_GMD, positives_GMD, vectors_GKD, targets_GM, negatives_GK, log_expected_GK)
