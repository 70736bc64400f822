"""A table of vectors too large for one device: each rank of the process group holds some of its rows, and learns them.

A look-up sends the distinct rows that a rank's events ask for, and no others, between ranks (`row_shard.fetch`). The
parameter is this rank's rows alone, an ordinary tensor: an optimizer keeps its averages for these rows, weights'
averages and clipping work on them as on any other parameter.

Legend: V rows of the whole table, R rows of this rank, X distinct rows of a look-up, D width.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.models.layers.embedding import padded_table, zero_padding_gradient
from seqrec_cli.models.layers.row_shard import RowShard, fetch
from seqrec_cli.processes import current

# Tables up to this many numbers (512 MB) are made whole and then cut, with the same first weights as in one process.
MADE_WHOLE = 1 << 27
BLOCK_ROWS = 1 << 16  # rows of a larger table that one generator fills
_making = False  # tables as shards, while a model is built


class ShardedTable(nn.Embedding):
    """This rank's rows of a table whose row 0, if it is here, is zero and never learns."""

    def __init__(self, shard: RowShard, dim: int, weight_RD: Tensor | None = None) -> None:
        nn.Module.__init__(self)
        self.shard = shard
        self.num_embeddings, self.embedding_dim, self.padding_idx = shard.rows, dim, 0
        self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse = None, 2.0, False, False
        self.weight = nn.Parameter(torch.zeros(len(shard), dim) if weight_RD is None else weight_RD)
        if shard.first == 0:
            self.weight.register_post_accumulate_grad_hook(zero_padding_gradient)

    def forward(self, rows: Tensor) -> Tensor:
        """[...] -> [..., D]: a collective."""
        index, table_XD = self.fetched(rows)
        return F.embedding(index, table_XD)

    def fetched(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The distinct rows among these, [X, D], and the index [...] of each in them; negative ones, which ask for
        nothing, stay as they are."""
        rows_X, index = torch.unique(rows.clamp(min=0), return_inverse=True)
        table_XD = fetch(self.weight, rows_X, self.shard, sparse=self.sparse)
        return torch.where(rows < 0, rows, index), table_XD

    @torch.no_grad()
    def fill(self, std: float) -> None:
        """First weights as `initialise` draws them, cut at two deviations. Each block of rows has a generator of its
        own, so that they are the same on any number of ranks and none makes the whole table."""
        if self.weight.is_meta:
            return
        base = int(torch.randint(2**62, ()).item())  # from the model's own stream: every rank has the same
        shard, width = self.shard, self.embedding_dim
        for block in range(shard.first // BLOCK_ROWS, -(-shard.last // BLOCK_ROWS)):
            begin = block * BLOCK_ROWS
            seed = int(np.random.SeedSequence((base, block)).generate_state(1, np.uint64)[0])
            filled = torch.empty(min(BLOCK_ROWS, shard.rows - begin), width)
            generator = torch.Generator().manual_seed(seed)
            nn.init.trunc_normal_(filled, std=std, a=-2 * std, b=2 * std, generator=generator)
            first, last = max(shard.first, begin), min(shard.last, begin + len(filled))
            self.weight[first - shard.first : last - shard.first] = filled[first - begin : last - begin]
        if shard.first == 0:
            self.weight[0].zero_()


def catalog_table(rows: int, dim: int) -> nn.Embedding:
    """A table that grows with the catalogue: with a padding row 0 as `padded_table`, or, while a model is built in
    shards, this rank's rows of it."""
    if _making:
        return ShardedTable(shard_of(rows), dim)
    table = padded_table(rows, dim)
    table.of_catalog = True  # type: ignore[assignment]
    return table


def shard_of(rows: int) -> RowShard:
    """This rank's part of a table of so many rows. Raises SeqrecError where one would have none."""
    shard = RowShard(rows, current())
    if shard.each < 2 or shard.each * (shard.world - 1) >= rows:
        raise SeqrecError(
            f"hardware.table=sharded: a table of {rows - 1:,} leaves one of {shard.world} processes without rows; "
            "start fewer, or use hardware.table=replicated"
        )
    return shard


@contextlib.contextmanager
def made_in_shards() -> Iterator[None]:
    """In this context `catalog_table` makes shards: no rank ever holds a whole table."""
    global _making
    _making = True
    try:
        yield
    finally:
        _making = False


def cut_tables(model: nn.Module) -> None:
    """Keep of every `catalog_table` this rank's rows."""
    for part in list(model.modules()):
        for name, table in list(part.named_children()):
            if isinstance(table, nn.Embedding) and getattr(table, "of_catalog", False):
                shard = shard_of(table.num_embeddings)
                rows_RD = table.weight.detach()[shard.first : shard.last].clone()
                setattr(part, name, ShardedTable(shard, table.embedding_dim, rows_RD))


def alike(model: nn.Module) -> list[Tensor]:
    """The parameters and buffers that every process has alike."""
    own = {id(table.weight) for table in sharded_tables(model).values()}
    return [tensor for tensor in (*model.parameters(), *model.buffers()) if id(tensor) not in own]


def count_parameters(model: nn.Module) -> int:
    """Numbers of a model's parameters, of sharded tables those of all processes."""
    tables = sharded_tables(model).values()
    elsewhere = sum((table.shard.rows - len(table.shard)) * table.embedding_dim for table in tables)
    return sum(p.numel() for p in model.parameters()) + elsewhere


def sharded_tables(model: nn.Module) -> dict[str, ShardedTable]:
    """The sharded tables of a model, by the name of their parameter."""
    return {f"{name}.weight": part for name, part in model.named_modules() if isinstance(part, ShardedTable)}
