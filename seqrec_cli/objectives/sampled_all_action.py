"""One of the next events at every position, at random, softmax over it and sampled negatives.

PinnerFormer (Pancha et al. 2022, arXiv 2205.04507, section 3.5.4): the dense all-action loss and the sampled softmax
with log-q correction (eq. 4), negatives from the batch and uniform. Here a future is the next `horizon` events of the
window instead of some days, and every position has one, not a random few.
"""

from dataclasses import replace

from seqrec_cli.config.objective.sampled_all_action import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.objectives.all_action import drawn_from_future
from seqrec_cli.objectives.sampled_losses import Criterion, softmax
from seqrec_cli.objectives.sampled_objective import SampledObjective


class Objective(SampledObjective):
    """Mean over all positions of the batch."""

    cfg: Config

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.log_q = cfg.log_q

    def build_criterion(self, num_items: int) -> Criterion:
        return softmax

    def drawn(self, batch: Batch) -> Batch:
        assert batch.targets_BL is not None
        return super().drawn(replace(batch, targets_BL=drawn_from_future(batch.targets_BL, self.cfg.horizon)))
