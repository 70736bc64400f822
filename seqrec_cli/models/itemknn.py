"""Item-to-item cosine: an item scores by its likeness to the items of the history (Sarwar et al. 2001, "Item-based
collaborative filtering recommendation algorithms", section 3.1.1, on who saw what).

With n_ij the users who saw both i and j, and n_i those who saw i:

  sim(i, j) = n_ij / (sqrt(n_i n_j) + shrinkage), i != j, the `neighbours` most alike of each i kept
  s(u, j)   = sum over the history's events i of 2^(-age / half_life) sim(i, j) + popularity * j's share of events

Shrinkage draws likenesses of few users to 0. Of a user's training events the latest `counted` are paired, for pairs
grow with their square. Beside the paper: the fading by age, because the next event is what is asked for.

Legend: B rows, L history events, V items, K neighbours, U users, N pairs of a user and an item, E pairs of items.
"""

import math
from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor

from seqrec_cli.config.model.itemknn import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.neighbours import BYTES_A_NEIGHBOUR, NeighbourModel, heaviest, joined
from seqrec_cli.saying import Say, silent

BYTES_A_PAIR = 64  # while pairs are summed and sorted
BYTES_AN_EVENT = 100
PAIRS_AT_ONCE = 1 << 24  # of events of one user, counted together: about 1 GB


class Model(NeighbourModel):
    """The most alike of every item."""

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.cfg = cfg
        self.register_tables(cfg.neighbours)

    def closed_form_bytes(self, events: int) -> int:
        pairs = min(events * self.cfg.counted, PAIRS_AT_ONCE)
        return BYTES_AN_EVENT * events + BYTES_A_PAIR * pairs + BYTES_A_NEIGHBOUR * self.ids_VK.numel()

    def fit_closed_form(self, histories: Iterable[Tensor], tell: Say = silent) -> None:
        kept = list(histories)
        columns = self.num_items + 1
        latest, users_N = joined([history[-self.cfg.counted :] for history in kept])
        keys_N = torch.unique(users_N * columns + latest)  # who saw what, once
        users_N, items_N = keys_N.div(columns, rounding_mode="floor"), keys_N % columns
        shape = (len(kept), columns)
        seen_UV = torch.sparse_coo_tensor(torch.stack([users_N, items_N]), torch.ones(len(keys_N)), shape).coalesce()
        roots_V = torch.bincount(items_N, minlength=columns).float().sqrt()
        # An item is paired with every item of each of its users: as many items at once as their pairs allow.
        pairs_V = torch.bincount(items_N, torch.bincount(users_N, minlength=len(kept))[users_N].double(), columns)
        order_N = items_N.argsort(stable=True)
        starts_V1 = torch.searchsorted(items_N[order_N], torch.arange(columns + 1)).tolist()
        ids_VK, weights_VK = (
            torch.zeros_like(self.ids_VK, device="cpu"),
            torch.zeros_like(self.weights_VK, device="cpu"),
        )
        for first, last in _pieces(pairs_V):
            inside_N = order_N[starts_V1[first] : starts_V1[last]]
            places = torch.stack([items_N[inside_N] - first, users_N[inside_N]])
            rows_UV = torch.sparse_coo_tensor(places, torch.ones(len(inside_N)), (last - first, len(kept)))
            shared = torch.sparse.mm(rows_UV.coalesce(), seen_UV).coalesce()
            rows_E, columns_E = shared.indices()
            others_E = rows_E + first != columns_E
            rows_E, columns_E, counts_E = rows_E[others_E], columns_E[others_E], shared.values()[others_E]
            alike_E = counts_E / (roots_V[rows_E + first] * roots_V[columns_E] + self.cfg.shrinkage)
            ids_VK[first:last], weights_VK[first:last] = heaviest(
                rows_E, columns_E, alike_E, rows=last - first, width=ids_VK.shape[1]
            )
        self.keep(ids_VK, weights_VK, torch.cat([torch.empty(0, dtype=torch.int64), *kept]))

    def score_corpus(self, batch: Batch) -> Tensor:
        places_L = torch.arange(batch.items_BL.shape[1], device=batch.items_BL.device)
        ages_BL = batch.lengths_B[:, None] - 1 - places_L
        fading = math.log(2) / self.cfg.half_life
        mass_BL = torch.where(ages_BL >= 0, torch.exp(-fading * ages_BL.clamp(min=0)), 0.0)
        items_BM, mass_BM = self.step(batch.items_BL, mass_BL)
        scores_BV = (self.cfg.popularity * self.popularity_V).repeat(batch.items_BL.shape[0], 1)
        return scores_BV.scatter_add_(1, items_BM, mass_BM)


def _pieces(pairs_V: Tensor) -> list[tuple[int, int]]:
    """Rows of items, from 1 on, in pieces of about PAIRS_AT_ONCE pairs, of one item at least."""
    pieces_V = pairs_V.cumsum(0).div(PAIRS_AT_ONCE, rounding_mode="floor")
    bounds = (torch.nonzero(pieces_V[1:] != pieces_V[:-1]).flatten() + 1).tolist()
    edges = sorted({1, *bounds, len(pairs_V)})
    return list(pairwise(edges))
