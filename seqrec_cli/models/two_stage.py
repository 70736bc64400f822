"""Two models as one recommender: a retriever cuts the corpus to a shortlist, and a ranker puts that in order.

An item of the shortlist has the ranker's score. All others stand beneath the shortlist's last, in the retriever's order
(equal scores stay equal). What is no answer (items already seen, items left out) is left out before the cut, or who has
a long history would be left with a short list. Each model reads as many events of a row as it was trained on.

Retrieval and ranking as in Covington, Adams and Sargin (RecSys 2016, section 2), with any two models.

Legend: B rows, C candidates, K items of the shortlist, M hidden items, V items.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import CORPUS_CHUNK, Recommender
from seqrec_cli.models.windows import latest_events

SPACING = 2.0**-22  # of a score, between two that stand apart as numbers of float32: up to 4 million of them in a row


class Stage(NamedTuple):
    """A trained model, and how many of a row's latest events it reads."""

    model: Recommender
    max_length: int

    def cut(self, batch: Batch) -> Batch:
        """The row as the model was trained to read it."""
        return latest_events(batch, self.max_length)


class TwoStage(Recommender):
    """A retriever and a ranker, which have been trained."""

    def __init__(self, retriever: Stage, ranker: Stage, *, retrieved: int) -> None:
        nn.Module.__init__(self)
        self.retriever, self.ranker = retriever.model, ranker.model
        self._retriever, self._ranker = retriever, ranker
        self.num_items, self.num_users = self.ranker.num_items, self.ranker.num_users
        self.sees_target_time = self.retriever.sees_target_time or self.ranker.sees_target_time
        # Of a shortlist as long as the corpus nothing is cut, and the ranker alone is left.
        self.shortlist = retrieved if retrieved < self.num_items else None

    def trainable_models(self) -> tuple[Recommender, ...]:
        return ()

    def score(self, batch: Batch, items_BC: Tensor) -> Tensor:
        """The ranker's logits [B, C]: what is asked about has been found already."""
        return self.ranker.score(self._ranker.cut(batch), items_BC)

    def score_corpus(self, batch: Batch) -> Tensor:
        return self.score_corpus_without(batch, batch.items_BL.new_zeros(0))

    def score_corpus_without(self, batch: Batch, hidden_M: Tensor, top: int | None = None) -> Tensor:
        """Scores [B, V + 1] in fp32, of which the K best are the ranker's logits of the shortlist.

        Raises SeqrecError where the retriever's scores are not numbers.
        """
        read = self._ranker.cut(batch)
        if self.shortlist is None:
            return self.ranker.score_corpus(read).float()
        first_BV = self.retriever.score_corpus_without(self._retriever.cut(batch), hidden_M).float()
        first_BV = first_BV.clone(memory_format=torch.contiguous_format)
        if not first_BV[:, 1:].amax() < torch.inf:  # NaN too fails the comparison
            raise SeqrecError("the retriever's scores are not numbers; its training has diverged")
        first_BV[:, 0] = -torch.inf
        first_BV.view(-1).index_fill_(0, hidden_M, -torch.inf)
        items_BK = best_items(first_BV, self.shortlist)
        parts = [self.ranker.score(read, items_BC).float() for items_BC in items_BK.split(CORPUS_CHUNK, dim=1)]
        scores_BK = torch.cat(parts, dim=1)
        last_B1 = scores_BK.amin(dim=1, keepdim=True)
        if top is not None and top <= self.shortlist:
            scores_BV = below(last_B1, torch.ones_like(first_BV))
        else:
            scores_BV = below(last_B1, places(first_BV))
        return scores_BV.scatter(1, items_BK, scores_BK)


def best_items(scores_BV: Tensor, count: int) -> Tensor:
    """The `count` best of each row in the catalog's order, [B, K]; of equal scores at the cut, the first items."""
    least_B1 = scores_BV.topk(count, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    above_BV, equal_BV = scores_BV > least_B1, scores_BV == least_B1
    room_B1 = count - above_BV.sum(dim=1, keepdim=True)
    taken_BV = above_BV | (equal_BV & (equal_BV.cumsum(dim=1) <= room_B1))
    return taken_BV.nonzero()[:, 1].view(-1, count)


def places(scores_BV: Tensor) -> Tensor:
    """Where each score stands among its row's different ones, the best at 1: float32 [B, V]."""
    sorted_BV, order_BV = scores_BV.sort(dim=1, descending=True)
    further_BV = torch.ones_like(order_BV)
    further_BV[:, 1:] = sorted_BV[:, 1:] < sorted_BV[:, :-1]
    return torch.empty_like(scores_BV).scatter_(1, order_BV, further_BV.cumsum(dim=1).to(scores_BV.dtype))


def below(last_B1: Tensor, places_BV: Tensor) -> Tensor:
    """Finite scores beneath a row's `last`, the lower the later the place; different places have different ones."""
    step_B1 = (last_B1.abs() * SPACING).clamp(min=1.0)
    return last_B1 - step_B1 * places_BV
