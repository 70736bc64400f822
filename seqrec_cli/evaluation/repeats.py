"""What a history gives away by itself: scorers that know nothing of items but which of them the user has seen.

Where targets repeat, "was it in the history" ranks well without having learned anything; a model has to be ahead of it.

Legend: B rows, L history events, C candidates, V items (V + 1 columns, 0 is padding).
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import view_of
from seqrec_cli.data.view import HeldOut
from seqrec_cli.models.contract import Recommender


class Repeats(Recommender):
    """`member`: 1 for an item of the history, else 0. `latest`: an item of the history the higher the later it was seen
    last, any other 0. It reads the rows it is given: give it whole histories."""

    def __init__(self, catalog: Catalog, kind: Literal["member", "latest"]) -> None:
        super().__init__(catalog)
        self._latest = kind == "latest"

    def score_corpus(self, batch: Batch) -> Tensor:
        L = batch.items_BL.shape[1]
        ages_L = torch.arange(1, L + 1, device=batch.items_BL.device)
        marks_BL = (ages_L if self._latest else torch.ones_like(ages_L)).float() * batch.mask_BL
        scores_BV = torch.zeros((len(batch), self.num_items + 1), device=marks_BL.device)
        scores_BV.scatter_reduce_(1, batch.items_BL, marks_BL, "amax")
        # Of ages only the order counts; within (0, 1] they are sound logits too.
        return scores_BV / L if self._latest else scores_BV

    def score(self, batch: Batch, items_BC: Tensor) -> Tensor:
        return self.score_corpus(batch).gather(1, items_BC)


def repeat_scorers(log: PackedLog, split: HeldOut) -> dict[str, Repeats]:
    """Both scorers, by their names among the baselines; none where no ranked target repeats an item of its history."""
    view = view_of(log)
    if view.seen == "remove" or not view.manifest["splits"][split]["repeated_targets"]:
        return {}
    return {"repeats": Repeats(log.catalog, "member"), "latest": Repeats(log.catalog, "latest")}


def longest_history(log: PackedLog) -> int:
    """The events of the user with the most: a row of so many holds any whole history."""
    return int(np.diff(log.offsets_U1).max(initial=1))
