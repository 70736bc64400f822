"""A first-order Markov chain: how often each item followed the history's last one.

Items that followed equally often (most of them: never) are ordered by popularity. An empty history is scored by
popularity alone.

Legend: B rows, C candidates, V items, E distinct transitions.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from seqrec_cli.config.model.markov import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import ClosedFormModel
from seqrec_cli.models.search import first_at_least
from seqrec_cli.saying import Say, silent


class Model(ClosedFormModel):
    """Transitions sorted by `last * (V + 1) + next`, so those of one item are a slice.

    `popularity_V` is the rank of an item's count among the distinct counts, divided to lie in [0, 1): it orders
    items of equal transition counts, and fp32 keeps its steps apart beside counts up to thousands, which shares of
    events would not.
    """

    keys_E: Tensor
    counts_E: Tensor
    popularity_V: Tensor
    scores_are_weights = True

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.register_buffer("keys_E", torch.empty(0, dtype=torch.int64))
        self.register_buffer("counts_E", torch.empty(0))
        self.register_buffer("popularity_V", torch.zeros(catalog.num_items + 1))

    def fit_closed_form(self, histories: Iterable[Tensor], tell: Say = silent) -> None:
        gathered = list(histories)
        events_N = torch.cat([torch.empty(0, dtype=torch.int64), *gathered])
        lengths_U = torch.tensor([len(h) for h in gathered], dtype=torch.int64)
        users_N = torch.repeat_interleave(torch.arange(len(gathered)), lengths_U)
        same_user = users_N[1:] == users_N[:-1]
        pairs = events_N[:-1][same_user] * (self.num_items + 1) + events_N[1:][same_user]
        keys_E, counts_E = torch.unique(pairs, return_counts=True)
        distinct, rank_V = torch.unique(torch.bincount(events_N, minlength=self.num_items + 1), return_inverse=True)
        device = self.keys_E.device
        self.keys_E, self.counts_E = keys_E.to(device), counts_E.float().to(device)
        self.popularity_V = (rank_V.float() / len(distinct)).to(device)

    def _last_items(self, batch: Batch) -> Tensor:
        """[B]; 0, which nothing follows, for an empty history."""
        rows_B = torch.arange(batch.items_BL.shape[0], device=batch.items_BL.device)
        last_B = batch.items_BL[rows_B, (batch.lengths_B - 1).clamp(min=0)]
        return torch.where(batch.lengths_B > 0, last_B, 0)

    def score(self, batch: Batch, items_BC: Tensor) -> Tensor:
        popularity_BC = self.popularity_V[items_BC]
        if len(self.keys_E) == 0:
            return popularity_BC
        wanted_BC = self._last_items(batch)[:, None] * (self.num_items + 1) + items_BC
        index_BC = first_at_least(self.keys_E, wanted_BC).clamp(max=len(self.keys_E) - 1)
        known_BC = self.keys_E[index_BC] == wanted_BC
        return popularity_BC + torch.where(known_BC, self.counts_E[index_BC], 0.0)

    def score_corpus(self, batch: Batch) -> Tensor:
        columns = self.num_items + 1
        last_B = self._last_items(batch)
        first_B = first_at_least(self.keys_E, last_B * columns)
        sizes_B = first_at_least(self.keys_E, (last_B + 1) * columns) - first_B
        rows_M = torch.repeat_interleave(torch.arange(len(batch), device=last_B.device), sizes_B)
        before_M = (sizes_B.cumsum(0) - sizes_B)[rows_M]  # transitions of the rows before
        edges_M = first_B[rows_M] + torch.arange(len(rows_M), device=last_B.device) - before_M
        scores_BV = self.popularity_V.repeat(len(batch), 1)
        scores_BV[rows_M, self.keys_E[edges_M] % columns] += self.counts_E[edges_M]
        return scores_BV
