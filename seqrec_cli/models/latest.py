"""Latest first: an item of the history scores the higher the later it was seen last, any other by its popularity.

Legend: B rows, L history events, C candidates, V items.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from seqrec_cli.config.model.latest import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import ClosedFormModel
from seqrec_cli.saying import Say, silent


class Model(ClosedFormModel):
    """Scores 1 + 1 / age for what was seen, age 1 for the latest event, and shares of events, below 1, for all."""

    popularity_V: Tensor
    scores_are_weights = True

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.register_buffer("popularity_V", torch.zeros(catalog.num_items + 1))

    def fit_closed_form(self, histories: Iterable[Tensor], tell: Say = silent) -> None:
        events_N = torch.cat([torch.empty(0, dtype=torch.int64), *histories])
        counts_V = torch.bincount(events_N, minlength=self.num_items + 1).double()
        self.popularity_V = (counts_V / (counts_V.sum() + 1)).float().to(self.popularity_V.device)

    def score_corpus(self, batch: Batch) -> Tensor:
        ages_BL = batch.lengths_B[:, None] - torch.arange(batch.items_BL.shape[1], device=batch.items_BL.device)
        marks_BL = torch.where(batch.mask_BL, 1 + 1 / ages_BL.clamp(min=1), 0.0)
        scores_BV = torch.zeros((batch.items_BL.shape[0], self.num_items + 1), device=marks_BL.device)
        return scores_BV.scatter_reduce(1, batch.items_BL, marks_BL, "amax") + self.popularity_V
