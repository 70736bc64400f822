"""Next item at every position, to be ranked above sampled negatives.

Bayesian personalised ranking (Rendle et al. 2009, arXiv 1205.2618, BPR-Opt): -log s(target - negative), here the mean
over K negatives of a position. The paper's prior on the parameters is the optimizer's weight decay; its users are
histories, its negatives unseen items drawn uniformly.
"""

from seqrec_cli.objectives.sampled_losses import Criterion, pairwise
from seqrec_cli.objectives.sampled_objective import SampledObjective


class Objective(SampledObjective):
    """Mean over the targets of the batch."""

    def build_criterion(self, num_items: int) -> Criterion:
        return pairwise
