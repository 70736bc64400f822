"""Next item at every position, binary cross-entropy against sampled negatives.

SASRec as published (Kang & McAuley 2018, arXiv 1808.09781, eq. 7) takes one negative for every position, uniform
over the items the user has not seen in training. With K negatives their terms are summed.
"""

from seqrec_cli.objectives.sampled_losses import Criterion, sigmoid
from seqrec_cli.objectives.sampled_objective import SampledObjective


class Objective(SampledObjective):
    """Mean over the targets of the batch."""

    def build_criterion(self, num_items: int) -> Criterion:
        return sigmoid(beta=1.0, share=1.0)
