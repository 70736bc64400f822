"""Next item at every position, softmax over the target and sampled negatives: a step that no catalogue slows down.

Negatives are items of the corpus, seen or not: with the log-q correction they stand for all others (see
`sampled_losses`). They are drawn uniformly, by popularity, from the batch's own targets, or from these and uniformly.
"""

from typing import Self

from pydantic import model_validator

from seqrec_cli.config.negatives import NegativesConfig
from seqrec_cli.config.rules import all_items_drawn
from seqrec_cli.objectives.contrast import ContrastObjective
from seqrec_cli.objectives.criteria import Criterion, softmax


class Config(NegativesConfig):
    """Softmax over target and negatives."""

    @model_validator(mode="after")
    def _all_drawn(self) -> Self:
        all_items_drawn(self.name, self.sampling)
        return self


class Objective(ContrastObjective):
    """Mean over all targets of the batch."""

    log_q = True

    def build_criterion(self, num_items: int) -> Criterion:
        return softmax
