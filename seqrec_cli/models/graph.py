"""The transition-graph heuristic: a few hops over the graph of which item followed which, from the last items on.

After "An Embarrassingly Simple Graph Heuristic Reveals Shortcut-Solvable Benchmarks for Sequential Recommendation"
(arXiv 2605.07125). The paper's edges a -> b count how often b followed a; its candidates are those in the rings of 1, 2
and 3 hops around the last item (or 1 and 2 around the last two), a fixed number from each ring, and inside the first
ring they are ordered by the likeness of text vectors plus 0.5 log(1 + count) / (the row's largest). Here, so that every
item has a score and no text encoder is needed:

  w(a, b) = (1 + attribute_weight cos(A_a, A_b)) sum of distance_decay^(d-1) over the pairs of b, d <= window events
            after a
  T(a, b) = w(a, b) / sum_b w(a, b), the `edges` heaviest of each a kept
  s(u, .) = sum_j source_decay^j sum_h hop_decay^(h-1) T^h(a_j, .) + popularity * share of events

where a_0, a_1, ... are the latest `sources` events, h runs to `hops`, A are the items' attribute values as 0/1 vectors,
all attributes together, and only the `branching` heaviest edges out of an item are followed further.

Legend: B rows, S sources, M paths of a row, V items, K edges kept, N events, E edges, W values of an attribute.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.model.graph import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.neighbours import BYTES_A_NEIGHBOUR, NeighbourModel, heaviest, joined, summed
from seqrec_cli.saying import Say, silent

BYTES_A_PAIR = 100  # of events: its place and weight, while they are sorted
PIECE = 1 << 18  # edges whose attributes are compared at once


class Model(NeighbourModel):
    """The normalised edges out of every item."""

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.cfg = cfg
        self._values = dict(catalog.item_values)
        self.register_tables(cfg.edges)

    def closed_form_bytes(self, events: int) -> int:
        return BYTES_A_PAIR * events * self.cfg.window + BYTES_A_NEIGHBOUR * self.ids_VK.numel()

    def fit_closed_form(self, histories: Iterable[Tensor], tell: Say = silent) -> None:
        events_N, users_N = joined(list(histories))
        sources, targets, weights = [], [], []
        for distance in range(1, self.cfg.window + 1):
            same_N = users_N[distance:] == users_N[:-distance]
            sources.append(events_N[:-distance][same_N])
            targets.append(events_N[distance:][same_N])
            weights.append(torch.full((len(sources[-1]),), self.cfg.distance_decay ** (distance - 1)))
        rows_E, columns_E, weights_E = summed(
            torch.cat(sources), torch.cat(targets), torch.cat(weights), size=self.num_items + 1
        )
        if self.cfg.attribute_weight and self._values:
            weights_E = weights_E * (1 + self.cfg.attribute_weight * self._likeness(rows_E, columns_E))
        totals_V = torch.zeros(self.num_items + 1).index_add_(0, rows_E, weights_E)
        ids_VK, weights_VK = heaviest(
            rows_E, columns_E, weights_E / totals_V[rows_E], rows=self.num_items + 1, width=self.ids_VK.shape[1]
        )
        self.keep(ids_VK, weights_VK, events_N)

    def _likeness(self, rows_E: Tensor, columns_E: Tensor) -> Tensor:
        """The cosine of both ends' attribute values; 0 where one has none."""
        shared_E, sizes_V = torch.zeros(len(rows_E)), torch.zeros(self.num_items + 1)
        for values in self._values.values():
            values_VW = torch.from_numpy(np.asarray(values))
            sizes_V += (values_VW > 0).sum(1)
            for first in range(0, len(rows_E), PIECE):
                piece = slice(first, first + PIECE)
                left_EW, right_EW = values_VW[rows_E[piece]], values_VW[columns_E[piece]]
                same_EWW = (left_EW[:, :, None] == right_EW[:, None]) & (left_EW > 0)[:, :, None]
                shared_E[piece] += same_EWW.sum((1, 2))
        return shared_E / (sizes_V[rows_E] * sizes_V[columns_E]).sqrt().clamp(min=1)

    def score_corpus(self, batch: Batch) -> Tensor:
        items_BM, mass_BM = self._sources(batch)
        scores_BV = (self.cfg.popularity * self.popularity_V).repeat(items_BM.shape[0], 1)
        for hop in range(self.cfg.hops):
            reached_BM, arriving_BM = self.step(items_BM, mass_BM)
            scores_BV.scatter_add_(1, reached_BM, self.cfg.hop_decay**hop * arriving_BM)
            items_BM, mass_BM = self.step(items_BM, mass_BM, self.cfg.branching)
        return scores_BV

    def _sources(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The latest events [B, S] and what each counts; 0 for those that a short history lacks."""
        ages_S = torch.arange(self.cfg.sources, device=batch.items_BL.device)
        places_BS = batch.lengths_B[:, None] - 1 - ages_S
        items_BS = batch.items_BL.gather(1, places_BS.clamp(min=0))
        decays_S = torch.tensor([self.cfg.source_decay**age for age in range(self.cfg.sources)])
        return items_BS, (places_BS >= 0) * decays_S.to(items_BS.device)
