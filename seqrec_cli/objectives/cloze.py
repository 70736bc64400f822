"""Guess the hidden events of a history from all others, softmax over the whole corpus: BERT4Rec's objective.

Sun et al. 2019, arXiv 1904.06690, eq. 8, and section 3.6 for rows that hide their final event alone. The paper masks
every chosen event (`random: 0`, `keep: 0`); 80 % masked, 10 % random, 10 % kept is BERT's rule (arXiv 1810.04805) and
that of the authors' code. Events are hidden by the loader (`data/cloze_rows`); logits exist at hidden events only.
"""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from seqrec_cli.config.schema import WindowObjectiveConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.cloze_rows import Masking
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives import contract
from seqrec_cli.objectives.losses import corpus_cross_entropy


class Config(WindowObjectiveConfig):
    """Which events are hidden, and how."""

    causal: ClassVar[bool | None] = False

    window: Literal["last", "sliding"] = Field(
        description="last: each user's latest max_length events; sliding: the whole history, in windows of max_length"
    )
    mask: float = Field(gt=0, le=1, description="share of a row's events that is hidden, at least one")
    random: float = Field(ge=0, le=1, description="share of the hidden events that become a random item, not a mask")
    keep: float = Field(ge=0, le=1, description="share of the hidden events that stay as they are")
    last: float = Field(ge=0, le=1, description="share of the rows that mask their final event alone")
    smoothing: float = Field(ge=0, lt=1, description="share of a target's probability that all items share instead")
    chunk_mb: int = Field(ge=1, description="scratch memory of the softmax")

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.random + self.keep > 1:
            raise ValueError(f"objective.random={self.random} and objective.keep={self.keep} are more than 1 together")
        return self


class Objective(contract.Objective):
    """Mean cross-entropy over the hidden events of the batch."""

    def __init__(self, cfg: Config) -> None:
        self.window, self.stride = cfg.window, cfg.stride
        self.chunk_mb, self.smoothing = cfg.chunk_mb, cfg.smoothing
        self.masking = Masking(cfg.mask, cfg.random, cfg.keep, cfg.last)

    def loss(self, model: Recommender, batch: Batch) -> Tensor:
        encoder, queries_ND, targets_N, _ = contract.at_targets(model, batch)
        table_VD, bias_V = encoder.item_table(), encoder.item_bias()
        return corpus_cross_entropy(queries_ND, table_VD, targets_N, self.chunk_mb, bias_V, self.smoothing)
