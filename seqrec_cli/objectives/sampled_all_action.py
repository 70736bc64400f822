"""One of the next events at every position, at random, softmax over it and sampled negatives.

PinnerFormer (Pancha et al. 2022, arXiv 2205.04507, section 3.5.4): the dense all-action loss and the sampled softmax
with log-q correction (eq. 4), negatives from the batch and uniform. Here a future is the next `horizon` events of the
window instead of some days, and every position has one, not a random few.
"""

from torch import Tensor

from seqrec_cli.config.objective.sampled_all_action import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives import contract
from seqrec_cli.objectives.contrast import ContrastObjective
from seqrec_cli.objectives.criteria import Criterion, softmax
from seqrec_cli.objectives.future import drawn_ahead


class Objective(ContrastObjective):
    """Mean over all positions of the batch."""

    log_q = True

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.horizon = cfg.horizon

    def build_criterion(self, num_items: int) -> Criterion:
        return softmax

    def loss(self, model: Recommender, batch: Batch) -> Tensor:
        encoder, queries_ND, _, positions_N = contract.at_targets(model, batch)
        assert batch.targets_BL is not None
        drawn_N = drawn_ahead(batch.targets_BL, self.horizon).flatten()[positions_N]
        return self.against_negatives(batch, encoder, queries_ND, drawn_N, positions_N)
