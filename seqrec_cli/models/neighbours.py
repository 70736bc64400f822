"""For every item the few it leads to, in tables [V + 1, K]: a sparse matrix of items whose rows have one width, so that
scores are gathers and sums of fixed shapes, and a catalogue of hundreds of thousands of items fits.

Legend: V items (row 0 is padding), K neighbours an item, E entries of a matrix, R its rows, N events, B rows of a
batch, M entries of one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from seqrec_cli.models.contract import ClosedFormModel

BYTES_A_NEIGHBOUR = 16  # as it is counted and as it is kept


def summed(rows_E: Tensor, columns_E: Tensor, weights_E: Tensor, *, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The entries of a [size, size] matrix, each once, by row and column: weights of equal places are added up."""
    keys_E, places_E = torch.unique(rows_E * size + columns_E, return_inverse=True)
    totals_E = torch.zeros(len(keys_E), dtype=torch.float64).index_add_(0, places_E, weights_E.double())
    return keys_E.div(size, rounding_mode="floor"), keys_E % size, totals_E.float()


def heaviest(rows_E: Tensor, columns_E: Tensor, weights_E: Tensor, *, rows: int, width: int) -> tuple[Tensor, Tensor]:
    """The `width` largest positive weights of each row, int32 and fp32 [rows, width], the largest first; of equal ones
    those that come first are kept. What is left is filled with item 0 of weight 0."""
    # Positive fp32 numbers rise with their bits, so one sort of whole numbers orders by row and falling weight.
    keys_E = (rows_E << 32) | (0x7FFFFFFF - weights_E.float().view(torch.int32).long())
    order_E = keys_E.sort(stable=True).indices
    rows_E = rows_E[order_E]
    counts_R = torch.bincount(rows_E, minlength=rows)
    ranks_E = torch.arange(len(rows_E)) - (counts_R.cumsum(0) - counts_R)[rows_E]
    kept_E = ranks_E < width
    ids_RK, weights_RK = torch.zeros(rows, width, dtype=torch.int32), torch.zeros(rows, width)
    ids_RK[rows_E[kept_E], ranks_E[kept_E]] = columns_E[order_E][kept_E].int()
    weights_RK[rows_E[kept_E], ranks_E[kept_E]] = weights_E[order_E][kept_E].float()
    return ids_RK, weights_RK


def joined(histories: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """All histories' items [N], and whose each is."""
    items_N = torch.cat([torch.empty(0, dtype=torch.int64), *histories])
    lengths_U = torch.tensor([len(history) for history in histories], dtype=torch.int64)
    return items_N, torch.repeat_interleave(torch.arange(len(histories)), lengths_U)


class NeighbourModel(ClosedFormModel):
    """A model of such tables. What no neighbour speaks for is ordered by `popularity_V`, shares of the events."""

    ids_VK: Tensor
    weights_VK: Tensor
    popularity_V: Tensor
    scores_are_weights = True

    def register_tables(self, width: int) -> None:
        """Empty tables: nothing leads anywhere."""
        rows = self.num_items + 1
        self.register_buffer("ids_VK", torch.zeros(rows, min(width, self.num_items), dtype=torch.int32))
        self.register_buffer("weights_VK", torch.zeros(rows, min(width, self.num_items)))
        self.register_buffer("popularity_V", torch.zeros(rows))

    def keep(self, ids_VK: Tensor, weights_VK: Tensor, events_N: Tensor) -> None:
        """Take what was counted, on the device of what stood there."""
        device = self.ids_VK.device
        counts_V = torch.bincount(events_N, minlength=self.num_items + 1).double()
        self.ids_VK, self.weights_VK = ids_VK.to(device), weights_VK.to(device)
        self.popularity_V = (counts_V / counts_V.sum().clamp(min=1)).float().to(device)

    def step(self, items_BM: Tensor, mass_BM: Tensor, width: int | None = None) -> tuple[Tensor, Tensor]:
        """Where each entry leads to, by its `width` heaviest neighbours (None: by all), and how much of its mass
        arrives there: [B, M x K] both."""
        reached_BMK = self.ids_VK[:, :width][items_BM].long()
        arriving_BMK = mass_BM[..., None] * self.weights_VK[:, :width][items_BM]
        return reached_BMK.flatten(1), arriving_BMK.flatten(1)
