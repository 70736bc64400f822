"""Next item at every position, generalised binary cross-entropy: the objective of gSASRec.

Petrov & Macdonald 2023, arXiv 2308.07192. Of all other items a share alpha = K / (V - 1) is drawn, so a plain binary
cross-entropy learns probabilities that are far too high. With the target's probability to the power of
beta = alpha (t (1 - 1 / alpha) + 1 / alpha) (eq. 12) they are calibrated: wholly at t = 1 (beta = alpha), not at all
at t = 0 (beta = 1). The mean over the target and its negatives (eq. 11), then over positions.

Differences: a negative that happens to be the target counts nothing (the paper draws from the other items, the
authors' code from all); negatives may be shared, by default by the positions of a history: each position's are still
uniform, so the expected gradient is that of the paper at a fraction of its cost (`shared: position` is the paper's).
"""

from seqrec_cli.config.objective.gbce import Config
from seqrec_cli.objectives.sampled_losses import Criterion, sigmoid
from seqrec_cli.objectives.sampled_objective import SampledObjective


class Objective(SampledObjective):
    """Mean over the targets of the batch."""

    cfg: Config

    def build_criterion(self, num_items: int) -> Criterion:
        return sigmoid(power(self.cfg.negatives, num_items, self.cfg.t), 1 / (1 + self.cfg.negatives))


def power(negatives: int, num_items: int, t: float) -> float:
    """beta: the power of the target's probability. More draws than items calibrate nothing: alpha is at most 1."""
    alpha = min(1.0, negatives / max(1, num_items - 1))
    return alpha * (t * (1 - 1 / alpha) + 1 / alpha)
