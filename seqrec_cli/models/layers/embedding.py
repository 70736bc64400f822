"""Vectors of items and users: their own, and those of their attributes.

Legend: V items, R rows of a catalog (row 0 is padding or unknown), W values a row, A values of an attribute, F
attributes, D width.
"""

from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn

from seqrec_cli.data.catalog import Attribute
from seqrec_cli.models.contract import full_precision
from seqrec_cli.models.layers.dropout import Dropout

# Up to this many rows it is faster to average the attributes of the whole catalog once a step than those of every
# event (1,024 rows of 50 events with 6 genre values: 3 ms against 13 ms).
WHOLE_CATALOG = 50_000
# Up to this many numbers (4 MB) the shares of values in rows are kept as a matrix, and averaging is a product.
DENSE_SHARES = 1 << 20


def _zero_padding_gradient(table: nn.Parameter) -> None:
    if table.grad is None:
        return
    if table.grad.is_sparse:  # one entry a row from here on, as norms and updates need it
        table.grad = table.grad.coalesce()
        table.grad.values().masked_fill_((table.grad.indices()[0] == 0)[:, None], 0.0)
    else:
        table.grad[0].zero_()


def padded_table(rows: int, dim: int) -> nn.Embedding:
    """A table whose row 0 is zero and never learns.

    `padding_idx` alone stops gradients of look-ups only; a table that is also the output layer gets one from the
    softmax over all its rows.
    """
    table = nn.Embedding(rows, dim, padding_idx=0)
    table.weight.register_post_accumulate_grad_hook(_zero_padding_gradient)
    return table


def use_sparse_rows(model: nn.Module) -> None:
    """Give the tables of items and users row-sparse gradients, so that a step's cost does not grow with them.

    For models whose settings have `sparse_rows`. Tables of attributes, small and wholly used, stay dense.
    """
    small = {id(part.table) for part in model.modules() if isinstance(part, AttributeEmbedding | ContextEmbedding)}
    for part in model.modules():
        if isinstance(part, nn.Embedding) and part.padding_idx is not None and id(part) not in small:
            part.sparse = True
        elif isinstance(part, FeatureEmbedding):
            part.whole = False
    model.sparse_rows = True  # type: ignore[assignment]


class AttributeEmbedding(nn.Module):
    """An attribute's vector by row of the catalog: the mean over the row's values, zero where it has none.

    The catalog's values are kept as a buffer, so a checkpoint holds all that scoring needs.
    """

    values_RW: Tensor
    shares_RA: Tensor | None
    counts_A: Tensor

    def __init__(self, attribute: Attribute, values_RW: np.ndarray, dim: int) -> None:
        super().__init__()
        self.table = padded_table(attribute.size, dim)
        self.register_buffer("values_RW", torch.from_numpy(np.array(values_RW, dtype=np.int64)))
        self.register_buffer("shares_RA", None, persistent=False)
        self.register_buffer("counts_A", torch.ones(attribute.size, dtype=torch.int64), persistent=False)
        if len(values_RW) * attribute.size <= DENSE_SHARES:
            self._share()
            self.register_load_state_dict_post_hook(lambda module, _: module._share())

    def forward(self, rows: Tensor) -> Tensor:
        """[...] rows of the catalog -> [..., D]."""
        means = self._means(self.values_RW[rows].flatten(0, -2))
        return means.view(*rows.shape, means.shape[-1])

    def see(self, counts_R: Tensor) -> None:
        """Count the training events of rows with each value, from those of every row, int64 [R]."""
        counts_RW = counts_R[:, None].expand_as(self.values_RW)
        self.counts_A.zero_().scatter_add_(0, self.values_RW.flatten(), counts_RW.flatten())

    def all_rows(self) -> Tensor:
        """The vectors of every row, [R, D]."""
        if self.shares_RA is None:
            return self._means(self.values_RW)
        with full_precision(self.shares_RA.device):
            return self.shares_RA @ self.table.weight

    def _share(self) -> None:
        """The share [R, A] of each value in a row's mean; padding has none."""
        shares_RA = self.values_RW.new_zeros((len(self.values_RW), len(self.table.weight)), dtype=torch.float32)
        shares_RA.scatter_add_(1, self.values_RW, torch.ones_like(self.values_RW, dtype=torch.float32))
        shares_RA[:, 0] = 0
        self.shares_RA = shares_RA / shares_RA.sum(1, keepdim=True).clamp(min=1)

    def _means(self, values_NW: Tensor) -> Tensor:
        if values_NW.shape[1] == 1:
            return nn.functional.embedding(values_NW[:, 0], self.table.weight, padding_idx=0)
        return nn.functional.embedding_bag(values_NW, self.table.weight, mode="mean", padding_idx=0)


class FeatureEmbedding(nn.Module):
    """A table's own vector and those of its attributes, all of width D; without `own`, the attributes alone.

    With `unknown`, rows that training never saw share a vector of their own, which is learned from ids that training
    hides with this probability; `padding` says whether row 0 is padding, which stays zero, or an unknown one too.
    """

    seen_R: Tensor

    def __init__(
        self,
        rows: int,
        attributes: tuple[Attribute, ...],
        values: dict[str, np.ndarray],
        *,
        dim: int,
        own: bool,
        drop: float = 0.0,
        unknown: float = 0.0,
        padding: bool = True,
    ) -> None:
        super().__init__()
        self.rows, self.unknown, self.padding, self.drop = rows, unknown if own else 0.0, padding, Dropout(drop)
        self.own = padded_table(rows + (self.unknown > 0), dim) if own else None  # the last row: any unknown one
        if self.unknown:
            self.register_buffer("seen_R", torch.arange(rows) > 0)
        self.attributes = nn.ModuleDict({a.name: AttributeEmbedding(a, values[a.name], dim) for a in attributes})
        self.whole = rows <= WHOLE_CATALOG
        self.width = dim * (len(attributes) + own)  # of `joined`

    def summed(self, rows: Tensor) -> Tensor:
        """[...] -> [..., D]: the sum of all vectors."""
        if self.whole and not self.unknown:
            return self.drop(self._by_row(rows, self._tables(), summed=True))
        return self.drop(torch.stack(self._vectors(rows)).sum(0))

    def joined(self, rows: Tensor) -> Tensor:
        """[...] -> [..., width]: all vectors one after another."""
        if self.whole and not self.unknown:
            return self.drop(self._by_row(rows, self._tables(), summed=False))
        return self.drop(torch.cat(self._vectors(rows), dim=-1))

    def see(self, counts_R: Tensor) -> None:
        """Learn which rows have training events, and each value of their attributes, from int64 [R]."""
        if self.unknown:
            self.seen_R.copy_(counts_R > 0)
        for attribute in self.attributes.values():
            attribute.see(counts_R)  # type: ignore[operator]

    def _vectors(self, rows: Tensor) -> list[Tensor]:
        own = [] if self.own is None else [self.own(self._known(rows))]
        if self.whole and self.attributes:
            tables = [a.all_rows() for a in self.attributes.values()]  # type: ignore[operator]
            return [*own, *self._by_row(rows, tables, summed=False).chunk(len(tables), dim=-1)]
        return own + [attribute(rows) for attribute in self.attributes.values()]

    def _known(self, rows: Tensor) -> Tensor:
        """The rows of `own` to read."""
        if not self.unknown:
            return rows
        hidden = ~self.seen_R[rows]
        if self.training:
            hidden = hidden | (torch.rand(rows.shape, device=rows.device) < self.unknown)
        return rows.masked_fill(hidden & (rows > 0) if self.padding else hidden, self.rows)

    def _tables(self) -> list[Tensor]:
        own = [] if self.own is None else [self.own.weight]
        return own + [a.all_rows() for a in self.attributes.values()]  # type: ignore[operator]

    def _by_row(self, rows: Tensor, tables: list[Tensor], summed: bool) -> Tensor:
        """Make the vectors of the whole catalog, then look up."""
        table = torch.stack(tables).sum(0) if summed else torch.cat(tables, dim=-1)
        return nn.functional.embedding(rows, table)


class ContextEmbedding(nn.Module):
    """Vectors of a request's context, one after another: [..., F] -> [..., F * D], zero where a value is absent."""

    firsts_F: Tensor

    def __init__(self, attributes: tuple[Attribute, ...], dim: int) -> None:
        super().__init__()
        firsts = list(accumulate((a.size - 1 for a in attributes), initial=0))
        self.table = padded_table(1 + firsts[-1], dim)
        self.register_buffer("firsts_F", torch.tensor(firsts[:-1]), persistent=False)
        self.width = dim * len(attributes)

    def forward(self, context: Tensor) -> Tensor:
        vectors: Tensor = self.table((context + self.firsts_F).masked_fill(context == 0, 0))
        return vectors.flatten(-2)
