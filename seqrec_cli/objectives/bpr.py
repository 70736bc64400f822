"""Next item at every position, to be ranked above sampled negatives.

Bayesian personalised ranking (Rendle et al. 2009, arXiv 1205.2618, BPR-Opt): -log s(target - negative), here the mean
over K negatives of a position. The paper's prior on the parameters is the optimizer's weight decay; its users are
histories, its negatives unseen items drawn uniformly.
"""

from seqrec_cli.config.objective.bpr import Config
from seqrec_cli.objectives.contrast import ContrastObjective
from seqrec_cli.objectives.criteria import Criterion, pairwise


class Objective(ContrastObjective):
    """Mean over the targets of the batch."""

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)

    def build_criterion(self, num_items: int) -> Criterion:
        return pairwise
