"""Each of the next events by a head of its own, softmax over the whole corpus: multi-token prediction.

Gloeckle et al. 2024 (arXiv 2404.19737, eq. 2): the state after event t asks for events t + 1 to t + n, each through its
own head on one encoder and one output table, and the losses are added. Here their mean is taken, each further event
counting `discount` of the one before it, and near a window's end over those that there are. Deviation: a head is one
layer (`models/layers/user_vector.py`), theirs a transformer block. The first event has no head, so answers, exports and
evaluation are those of any encoder; `seqrec rollout` asks it again and again.

`objective=all_action` is multi-step training without heads: one state has the next events as a set, in no order.

Legend: B rows, L history events, N training targets, S steps, D width, V items.
"""

import torch
from torch import Tensor

from seqrec_cli.config.objective.multi_step import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.objectives.contract import CorpusSoftmaxObjective, at_targets


class Objective(CorpusSoftmaxObjective):
    """Mean over positions of the discounted mean cross-entropy of their next events."""

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.discount = cfg.discount

    def target_loss(self, model: Recommender, batch: Batch) -> Tensor:
        encoder, queries_ND, targets_N, positions_N, _ = at_targets(model, batch, window=self.window)
        assert batch.targets_BL is not None
        assert isinstance(encoder, ItemEncoder)
        assert encoder.step_heads is not None
        ahead_NS = events_ahead(batch.targets_BL, encoder.steps_ahead).flatten(0, 1).index_select(0, positions_N)
        weights_NS = (ahead_NS > 0) * self.discount ** torch.arange(encoder.steps_ahead, device=ahead_NS.device)
        weights_NS = weights_NS / weights_NS.sum(1, keepdim=True)
        loss = self.cross_entropy(encoder, queries_ND, targets_N, weights_N=weights_NS[:, 0])
        for step in range(2, encoder.steps_ahead + 1):
            # Where there is no such event any item is its target, and counts nothing: a GPU is not waited for.
            there_N, weights_N = ahead_NS[:, step - 1].clamp(min=1), weights_NS[:, step - 1]
            queries_ahead_ND = encoder.query_ahead(queries_ND, step)
            loss = loss + self.cross_entropy(encoder, queries_ahead_ND, there_N, weights_N=weights_N)
        return loss


def events_ahead(targets_BL: Tensor, steps: int) -> Tensor:
    """The targets of each position and of those behind it, [B, L, S]; 0 where the window has ended."""
    padded = torch.nn.functional.pad(targets_BL, (0, steps - 1))
    return padded.unfold(1, steps, 1)
