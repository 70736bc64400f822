"""How an event of a history is compared with a candidate without an MLP over both: by their inner product, or by one
additive layer. The same interface as DIN's activation unit (`activation_unit.py`).

Legend: B rows, L events, C candidates, F features of an item, M width of the layer. Candidates are [B, C, ...], or
[C, ...] where all rows share them.
"""

import torch
from torch import Tensor, nn

from seqrec_cli.models.contract import full_precision
from seqrec_cli.models.layers.attention import masked_softmax


class EventScores(nn.Module):
    """Weighs events by scores: as they come, or by their softmax over the history."""

    def __init__(self, softmax: bool, numbers: int) -> None:
        super().__init__()
        self.softmax = softmax
        self.numbers = numbers  # of one pair of event and candidate
        self.candidate_width = 0  # of what is made of a candidate once

    def forward(self, events_BLF: Tensor, candidates: Tensor, sees_BLC: Tensor) -> Tensor:
        """Interests [B, C, F]: each candidate's weighted sum of the events it `sees` ([B, L, C], or [B, L, 1])."""
        return self.weights(events_BLF, candidates, sees_BLC).transpose(1, 2).to(events_BLF.dtype) @ events_BLF

    def weights(self, events_BLF: Tensor, candidates: Tensor, sees_BLC: Tensor) -> Tensor:
        """The events' weights [B, L, C], zero where a candidate does not see them."""
        with full_precision(events_BLF.device):
            raw_BLC = self.scores(events_BLF.float(), candidates.float())
        return masked_softmax(raw_BLC, sees_BLC, dim=1) if self.softmax else raw_BLC.masked_fill(~sees_BLC, 0.0)

    def scores(self, events_BLF: Tensor, candidates: Tensor) -> Tensor:
        """[B, L, C]."""
        raise NotImplementedError


class DotScores(EventScores):
    """q . k, or with `scaled` q . k / sqrt(F) (Vaswani et al. 2017, arXiv 1706.03762, eq. 1)."""

    def __init__(self, features: int, softmax: bool, scaled: bool) -> None:
        super().__init__(softmax, numbers=2)
        self.factor = features**-0.5 if scaled else 1.0

    def scores(self, events_BLF: Tensor, candidates: Tensor) -> Tensor:
        return events_BLF @ candidates.transpose(-1, -2) * self.factor


class AdditiveScores(EventScores):
    """v . tanh(W_q q + W_k k + b) (Bahdanau et al. 2015, arXiv 1409.0473, appendix A.1.2)."""

    def __init__(self, features: int, width: int, softmax: bool) -> None:
        super().__init__(softmax, numbers=2 * width)
        self.candidate_width = width
        self.query = nn.Linear(features, width)
        self.key = nn.Linear(features, width, bias=False)
        self.weight = nn.Linear(width, 1, bias=False)

    def scores(self, events_BLF: Tensor, candidates: Tensor) -> Tensor:
        queries = self.query(candidates)
        queries = queries if queries.dim() == 2 else queries[:, None]
        scores_BLC: Tensor = self.weight(torch.tanh(self.key(events_BLF)[:, :, None] + queries)).squeeze(-1)
        return scores_BLC
