"""Items like an item: those whose vectors point the same way.

Legend: B questions, D width, K answers, V items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.models.contract import SequenceEncoder
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.scores import refuse_no_numbers
from seqrec_cli.serving.scoring import NUMBERS


@dataclass(frozen=True)
class LikeItem:
    """The item (from 1) that others are to be like, and how many."""

    item: int
    top: int
    kind = "like an item"


class ItemVectors:
    """The table of an encoder's items, each of length 1."""

    def __init__(self, recommending: Recommending) -> None:
        """Raises SeqrecError for a model without such a table."""
        if not isinstance(recommending.model, SequenceEncoder):
            raise SeqrecError(f"model={recommending.name} makes no item vectors; take an encoder (sasrec)")
        self._left_out = recommending.left_out
        with torch.inference_mode():
            self._units_VD = F.normalize(recommending.model.item_table().float(), dim=1)

    def question(self, recommending: Recommending, item: int, top: int) -> LikeItem:
        """What is like that item (from 1)."""
        return LikeItem(item, top)

    def rows_of(self, question: LikeItem) -> int:
        """How many questions are best answered at once."""
        return max(NUMBERS // len(self._units_VD), 1)

    @torch.inference_mode()
    def answer(self, questions: Sequence[LikeItem]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(items, cosines) of each, the highest first, without the item itself."""
        items_B = torch.tensor([question.item for question in questions], device=self._units_VD.device)
        cosines_BV = self._units_VD[items_B] @ self._units_VD.T
        refuse_no_numbers(cosines_BV)
        cosines_BV[:, 0] = -torch.inf
        cosines_BV.scatter_(1, items_B[:, None], -torch.inf)
        if self._left_out is not None:
            cosines_BV[:, self._left_out] = -torch.inf
        best = cosines_BV.topk(min(max(question.top for question in questions), cosines_BV.shape[1]), dim=1)
        items_BK, cosines_BK = best.indices.cpu().numpy(), best.values.cpu().numpy()
        found = []
        for question, items_K, cosines_K in zip(questions, items_BK, cosines_BK, strict=True):
            left = min(int(np.isfinite(cosines_K).sum()), question.top)
            found.append((items_K[:left], cosines_K[:left]))
        return found
