"""The next item code by code: the cross-entropy of each code of the target's tuple, behind those before it.

Their sum is the negative log probability of the item, in nats as the loss of a softmax over the corpus is.

Legend: N targets.
"""

from torch import Tensor

from seqrec_cli.config.objective.codes import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Generator, Recommender
from seqrec_cli.objectives import contract


class Objective(contract.Objective):
    """The (weighted) mean over all targets of the batch."""

    def __init__(self, cfg: Config) -> None:
        self.window, self.stride = cfg.window, cfg.stride

    def target_loss(self, model: Recommender, batch: Batch) -> Tensor:
        assert isinstance(model, Generator)
        losses_N = model.target_losses(batch, self.window == "prefixes")
        if batch.weights_BL is not None:
            losses_N = losses_N * batch.weights_BL.flatten()[batch.target_positions()]
        return losses_N.mean()
