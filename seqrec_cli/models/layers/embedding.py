"""Vectors of items and users: their own, and those of their attributes.

Legend: V items, R rows of a catalog (row 0 is padding or unknown), W values a row, A values of an attribute, K numbers
a row, F attributes, D width.
"""

from collections.abc import Mapping
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
# Buffers that say what is known of the catalog's rows, or which of them were trained: no statistics of training.
CATALOG_BUFFERS = frozenset({"numbers_RK", "trained_V1"})
# Up to this many numbers (4 MB) the shares of values in rows are kept as a matrix, and averaging is a product.
DENSE_SHARES = 1 << 20


def zero_padding_gradient(table: nn.Parameter) -> None:
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
    table.weight.register_post_accumulate_grad_hook(zero_padding_gradient)
    return table


def use_sparse_rows(model: nn.Module) -> None:
    """Give the tables of items and users row-sparse gradients, so that a step's cost does not grow with them.

    For models whose settings have `sparse_rows`. Tables of attributes, small and wholly used, stay dense.
    """
    small = {id(part.table) for part in model.modules() if isinstance(part, AttributeEmbedding)}
    small |= {id(table) for part in model.modules() if isinstance(part, ContextEmbedding) for table in part.modules()}
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


class NumberEmbedding(nn.Module):
    """A row's numbers times a learned vector each: a projection of what is known of the row and does not learn.

    The numbers are kept as a buffer, so a checkpoint holds all that scoring needs.
    """

    numbers_RK: Tensor

    def __init__(self, numbers_RK: np.ndarray, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(numbers_RK.shape[1], dim)  # initialised, decayed and updated as embeddings are
        self.register_buffer("numbers_RK", torch.from_numpy(np.array(numbers_RK, dtype=np.float32)))

    def forward(self, rows: Tensor) -> Tensor:
        """[...] rows -> [..., D]."""
        return self._projected(self.numbers_RK[rows])

    def all_rows(self) -> Tensor:
        """The vectors of every row, [R, D]."""
        return self._projected(self.numbers_RK)

    def _projected(self, numbers: Tensor) -> Tensor:
        with full_precision(numbers.device):
            return numbers @ self.table.weight


def named_modules(modules: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """Modules by name: one that torch has a use for (type, values, ...) is followed by an underscore."""
    return nn.ModuleDict({module_key(name): module for name, module in modules.items()})


def module_key(name: str) -> str:
    """The key that `named_modules` gives a name."""
    return f"{name}_" if hasattr(nn.ModuleDict(), name) else name


class FeatureEmbedding(nn.Module):
    """A table's own vector and those of its attributes and numbers; without `own`, the latter alone.

    All are of width `dim`, but those that `widths` names. With `unknown`, rows that training never saw share a vector
    of their own, which is learned from ids that training hides with this probability; `padding` says whether row 0 is
    padding, which stays zero, or an unknown one too.
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
        numbers: Mapping[str, np.ndarray] | None = None,
        widths: Mapping[str, int] | None = None,
        own_width: int | None = None,
    ) -> None:
        super().__init__()
        self.rows, self.unknown, self.padding, self.drop = rows, unknown if own else 0.0, padding, Dropout(drop)
        widths, own_width = widths or {}, own_width or dim
        self.own = padded_table(rows + (self.unknown > 0), own_width) if own else None  # the last row: any unknown one
        if self.unknown:
            self.register_buffer("seen_R", torch.arange(rows) > 0)
        width_of = dict.fromkeys((*values, *(numbers or {})), dim) | dict(widths)
        self.attributes = named_modules(
            {a.name: AttributeEmbedding(a, values[a.name], width_of[a.name]) for a in attributes}
        )
        self.numbers = named_modules(
            {name: NumberEmbedding(numbers_RK, width_of[name]) for name, numbers_RK in (numbers or {}).items()}
        )
        self.whole = rows <= WHOLE_CATALOG
        each = [width_of[name] for name in (*(a.name for a in attributes), *(numbers or {}))]
        self.width = sum(each) + (own_width if own else 0)  # of `joined`

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
        if self.whole and self._known_of_rows():
            tables = self._known_tables()
            each = [table.shape[-1] for table in tables]
            return [*own, *self._by_row(rows, tables, summed=False).split(each, dim=-1)]
        return own + [part(rows) for part in self._known_of_rows()]

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
        return own + self._known_tables()

    def _known_of_rows(self) -> list[nn.Module]:
        """What makes vectors of the rows' attributes and numbers."""
        return [*self.attributes.values(), *self.numbers.values()]

    def _known_tables(self) -> list[Tensor]:
        return [part.all_rows() for part in self._known_of_rows()]  # type: ignore[operator]

    def _by_row(self, rows: Tensor, tables: list[Tensor], summed: bool) -> Tensor:
        """Make the vectors of the whole catalog, then look up."""
        table = torch.stack(tables).sum(0) if summed else torch.cat(tables, dim=-1)
        return nn.functional.embedding(rows, table)


class ContextEmbedding(nn.Module):
    """Vectors of a request's context, one after another: [..., F] -> [..., width], zero where a value is absent.

    One table holds them all, unless some are numbers (levels with ranks) or have a width of their own.
    """

    firsts_F: Tensor

    def __init__(
        self,
        attributes: tuple[Attribute, ...],
        dim: int,
        *,
        numbers: Mapping[str, np.ndarray] | None = None,
        widths: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        numbers = numbers or {}
        each = {a.name: dim for a in attributes} | dict(widths or {})
        self.table, self.tables = None, None
        if numbers or any(each[a.name] != dim for a in attributes):
            self.tables = nn.ModuleList(
                NumberEmbedding(numbers[a.name], each[a.name])
                if a.name in numbers
                else padded_table(a.size, each[a.name])
                for a in attributes
            )
        else:
            firsts = list(accumulate((a.size - 1 for a in attributes), initial=0))
            self.table = padded_table(1 + firsts[-1], dim)
            self.register_buffer("firsts_F", torch.tensor(firsts[:-1]), persistent=False)
        self.width = sum(each[a.name] for a in attributes)

    def forward(self, context: Tensor) -> Tensor:
        return torch.cat(self._vectors(context), dim=-1) if self.table is None else self._of_table(context).flatten(-2)

    def summed(self, context: Tensor) -> Tensor:
        """[..., F] -> [..., D]: the sum of the vectors, which are of one width."""
        if self.table is None:
            return torch.stack(self._vectors(context)).sum(0)
        return self._of_table(context).sum(-2)

    def _of_table(self, context: Tensor) -> Tensor:
        assert self.table is not None
        vectors: Tensor = self.table((context + self.firsts_F).masked_fill(context == 0, 0))
        return vectors

    def _vectors(self, context: Tensor) -> list[Tensor]:
        assert self.tables is not None
        return [table(codes) for table, codes in zip(self.tables, context.unbind(-1), strict=True)]
