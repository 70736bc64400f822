"""Most popular: every history gets the same scores, log(1 + how often an item was seen in training).

Legend: B rows, C candidates, V items.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from seqrec_cli.config.model.popular import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import ClosedFormModel
from seqrec_cli.saying import Say, silent


class Model(ClosedFormModel):
    """Scores by item counts alone."""

    counts_V: Tensor

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.register_buffer("counts_V", torch.zeros(catalog.num_items + 1, dtype=torch.int64))

    def fit_closed_form(self, histories: Iterable[Tensor], tell: Say = silent) -> None:
        events_N = torch.cat([torch.empty(0, dtype=torch.int64), *histories])
        self.counts_V = torch.bincount(events_N, minlength=self.num_items + 1).to(self.counts_V.device)

    def score(self, batch: Batch, items_BC: Tensor) -> Tensor:
        return self.counts_V.float().log1p()[items_BC]

    def score_corpus(self, batch: Batch) -> Tensor:
        return self.counts_V.float().log1p().expand(len(batch), -1)
