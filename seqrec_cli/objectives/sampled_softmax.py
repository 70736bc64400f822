"""Next item at every position, softmax over the target and sampled negatives: a step that no catalogue slows down.

Negatives are items of the corpus, seen or not: with the log-q correction they stand for all others (see
`sampled_losses`). They are drawn uniformly, by popularity, from the batch's own targets, or from these and uniformly.
"""

from seqrec_cli.objectives.sampled_losses import Criterion, softmax
from seqrec_cli.objectives.sampled_objective import SampledObjective


class Objective(SampledObjective):
    """Mean over all targets of the batch."""

    log_q = True

    def build_criterion(self, num_items: int) -> Criterion:
        return softmax
