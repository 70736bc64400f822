"""Next item at every position, softmax over the target and sampled negatives: a step that no catalogue slows down.

Negatives are items of the corpus, seen or not, drawn uniformly, by popularity, from the batch's own targets, or from
these and uniformly. With the log-q correction they stand for all others (see `sampled_losses`), by themselves (Bengio &
Senecal) or as a draw of which the target is one (`log_q=all`: Jean et al., arXiv 1412.2007, eq. 8; Yi et al.,
RecSys 2019, eq. 6, "sampling-bias-corrected"). Without it they stand
for themselves: the target's share among 1 + K scores. That is the published loss of HSTU (arXiv 2402.17152, its code's
SampledSoftmaxLoss: 128 uniform negatives a position, those that equal the target left out) and of eSASRec (arXiv
2508.06450: 256 uniform negatives a position; its code leaves no target out). eSASRec has log-q in one variant alone,
"Mixed-LogQ".
"""

from seqrec_cli.config.objective.sampled_softmax import Config
from seqrec_cli.objectives.sampled_losses import Criterion, softmax
from seqrec_cli.objectives.sampled_objective import SampledObjective


class Objective(SampledObjective):
    """Mean over all targets of the batch."""

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.log_q = cfg.log_q

    def build_criterion(self, num_items: int) -> Criterion:
        return softmax
