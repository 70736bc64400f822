"""All of the next events at every position, softmax over the whole corpus: the dense all-action loss.

PinnerFormer (Pancha et al. 2022, arXiv 2205.04507, section 3.5.4) takes one event of the next days at random for each
of some random positions. Here a future is the next `horizon` events of the window, every position has one, and all
its events are targets, equally: the mean of what a random one would give, at the cost of one softmax.

Legend: B rows, L history events, N training targets, D width, V items.
"""

import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.config.objective.all_action import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives import contract
from seqrec_cli.objectives.future import mean_ahead
from seqrec_cli.objectives.losses import corpus_cross_entropy, lead


class Objective(contract.Objective):
    """Mean over positions of the mean cross-entropy of their targets."""

    def __init__(self, cfg: Config) -> None:
        self.window, self.stride = cfg.window, cfg.stride
        self.horizon, self.smoothing, self.chunk_mb = cfg.horizon, cfg.smoothing, cfg.chunk_mb

    def loss(self, model: Recommender, batch: Batch) -> Tensor:
        encoder, queries_ND, targets_N, positions_N = contract.at_targets(model, batch)
        assert batch.targets_BL is not None
        table_VD, bias_V = encoder.item_table(), encoder.item_bias()
        next_only = corpus_cross_entropy(queries_ND, table_VD, targets_N, self.chunk_mb, bias_V, self.smoothing)
        vectors_BLD, biases_BL = F.embedding(batch.targets_BL, table_VD), None
        if bias_V is not None:
            biases_BL = F.embedding(batch.targets_BL, bias_V[:, None])
        # The normaliser is the same for all targets of a position: from the next event to the mean of several, the
        # loss grows by the difference of their scores.
        ahead = []
        for vectors in (vectors_BLD, biases_BL):
            if vectors is not None:
                mean = mean_ahead(vectors, batch.targets_BL, self.horizon)
                ahead.append((vectors.float() - mean).flatten(0, 1).index_select(0, positions_N))
        return next_only + (1 - self.smoothing) * lead(queries_ND, *ahead)
