"""The next item, and an item that agrees with its users: "use a sequence of these user embeddings to represent the
item, and enforce the high-order item embeddings to be consistent with the original item embedding" (Huang, critique of
SASRec, section 4.4, without equations or experiments).

Of a batch's targets n, with states q_n (what the encoder makes of the events before the target) and items y_n:

    m_v = mean of q_n over the targets with y_n = v            the item made of its users, in this batch
    cosine:    L = mean over the batch's items v of 1 - cos(m_v, e_v)
    contrast:  L = mean over the batch's items v of -log softmax_w(cos(m_v, e_w) / temperature)[v], w over all items
    loss = CE(y_n, softmax_w(q_n . e_w + b_w)) + consistency L

e_v is the item's output vector. A state has not read the item it speaks for: one that had would hold the item's own
vector. Every item of a batch counts alike in L, where the cross-entropy counts it as often as it occurs. The vector
made of users is their mean, not a second encoder's, so that the loss has no parameters. With `consistency_moves=items`
gradients reach e alone, with `states` m alone; with `both` they pull each other together, which cosine alone could
satisfy by making all items alike, and the cross-entropy and `contrast` do not let them.

Near relatives: DCN (Lin et al. 2022, arXiv 2209.08446, section 3) draws users and items to the encodings of their
sequences by Euclidean distance and predicts the next user beside the next item; dual sequential prediction (Wu et al.,
KDD 2019, doi 10.1145/3292500.3330959) trains a user-centred and an item-centred model by each other's scores.

In evaluation, validation's loss included, the cross-entropy stands alone.

Legend: B rows, L history events, N training targets, S places for a batch's distinct items, D width, V items.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.objective.dual import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender, SequenceEncoder, full_precision
from seqrec_cli.objectives.contract import CorpusSoftmaxObjective, at_targets
from seqrec_cli.objectives.losses import corpus_cross_entropy
from seqrec_cli.processes import current


class Objective(CorpusSoftmaxObjective):
    """Mean cross-entropy over the batch's targets, and `consistency` times the loss between items and their users."""

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.weight, self.form, self.moves = cfg.consistency, cfg.consistency_form, cfg.consistency_moves
        self.temperature = cfg.consistency_temperature

    def target_loss(self, model: Recommender, batch: Batch) -> Tensor:
        at = at_targets(model, batch, window=self.window)
        loss = self.cross_entropy(at.encoder, at.queries_ND, at.targets_N, weights_N=at.weights_N)
        if self.weight == 0 or not at.encoder.training:
            return loss
        if current().count > 1:  # which torchrun may have started
            raise SeqrecError(f"objective.consistency={self.weight:g}: several processes share a batch; set it to 0")
        of_users = made_of_users(at.queries_ND, at.targets_N, at.weights_N)
        return loss + self.weight * self.consistency(at.encoder, of_users)

    def consistency(self, encoder: SequenceEncoder, of_users: "OfUsers") -> Tensor:
        """The mean over a batch's items of how far each is from what its users make of it."""
        items_S, states_SD, there_S = of_users
        with full_precision(states_SD.device):
            states_SD = states_SD.detach() if self.moves == "items" else states_SD
            if self.form == "cosine":
                own_SD = encoder.item_vectors(items_S).float()
                own_SD = own_SD.detach() if self.moves == "states" else own_SD
                away_S = 1 - F.cosine_similarity(states_SD, own_SD, dim=-1)
                return (away_S * there_S).sum() / there_S.sum()
            table_VD = F.normalize(encoder.item_table().float(), dim=-1)
            table_VD = table_VD.detach() if self.moves == "states" else table_VD
            queries_SD = F.normalize(states_SD, dim=-1) / self.temperature
        weights_S = there_S * (len(there_S) / there_S.sum())
        return corpus_cross_entropy(queries_SD, table_VD, items_S, chunk_mb=self.chunk_mb, weights_N=weights_S)


class OfUsers(NamedTuple):
    """A batch's distinct items by what their users make of them; places beyond their number are empty."""

    items_S: Tensor  # 1 where there is none
    states_SD: Tensor  # mean state, in fp32
    there_S: Tensor  # 1.0 or 0.0


def made_of_users(states_ND: Tensor, targets_N: Tensor, weights_N: Tensor | None) -> OfUsers:
    """The (weighted) mean state before each item of the batch. A GPU is not asked how many items there are: it has as
    many places as targets."""
    order_N = targets_N.argsort()
    sorted_N = targets_N[order_N]
    place_N = F.pad((sorted_N[1:] != sorted_N[:-1]).long(), (1, 0)).cumsum(0)
    places = int(place_N[-1]) + 1 if targets_N.device.type == "cpu" else len(targets_N)
    states_ND = states_ND.index_select(0, order_N).float()
    counted_N = torch.ones_like(states_ND[:, 0]) if weights_N is None else weights_N[order_N].float()
    counts_S = counted_N.new_zeros(places).index_add(0, place_N, counted_N)
    sums_SD = states_ND.new_zeros(places, states_ND.shape[1]).index_add(0, place_N, states_ND * counted_N[:, None])
    items_S = targets_N.new_ones(places).scatter(0, place_N, sorted_N)
    means_SD = sums_SD / counts_S.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    return OfUsers(items_S, means_SD, (counts_S > 0).float())
