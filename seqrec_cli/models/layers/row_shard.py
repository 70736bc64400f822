"""Rows of a table that are spread over the ranks of a process group, and what ranks send each other for them.

Rank r holds the rows r C to (r + 1) C - 1 of V, C = ceil(V / W): the cut of DTensor's `Shard(0)`, so that
`torch.distributed.checkpoint` writes and reads the shards, on any number of ranks, as the pieces of one tensor.

Every function here but `held` is a collective: all ranks call it, in the same order.

Legend: W ranks, V rows of the whole table, R rows of this rank, X rows asked for, Y rows that others ask of this rank,
D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqrec_cli.processes import Processes, connected
from seqrec_cli.processes.sums import Summed

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


@dataclass(frozen=True)
class RowShard:
    """Which rows of a table of `rows` are this rank's: `first` to `last` - 1."""

    rows: int
    processes: Processes

    @property
    def rank(self) -> int:
        """This process's."""
        return self.processes.rank

    @property
    def world(self) -> int:
        """How many processes hold the table."""
        return self.processes.count

    @property
    def each(self) -> int:
        """Rows of a rank; the last ranks may have fewer."""
        return -(-self.rows // self.world)

    @property
    def first(self) -> int:
        return min(self.rank * self.each, self.rows)

    @property
    def last(self) -> int:
        return min(self.first + self.each, self.rows)

    @property
    def bounds(self) -> list[int]:
        """The first row of every rank but the first."""
        return [self.each * rank for rank in range(1, self.world)]

    def __len__(self) -> int:
        return self.last - self.first

    def held(self, rows: Tensor) -> Tensor:
        """Which of these rows are this rank's."""
        return (rows >= self.first) & (rows < self.last)

    def sum(self, local: Tensor) -> Tensor:
        """The sum over all ranks, through which gradients flow: those of all ranks' losses."""
        summed: Tensor = Summed.apply(local, self.processes)
        return summed

    def as_dtensor(self, local_RD: Tensor) -> "DTensor":
        """This rank's rows as a piece of the whole tensor, for `torch.distributed.checkpoint`."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import DTensor, Shard

        mesh = init_device_mesh(local_RD.device.type, (self.world,))
        shape = torch.Size((self.rows, *local_RD.shape[1:]))
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(local_RD, mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)


def exchange(sent: Tensor, counts_sent: Sequence[int], counts_received: Sequence[int]) -> Tensor:
    """Send the first `counts_sent[0]` rows to rank 0, the next to rank 1, ...; what they send here, in their order."""
    received = sent.new_empty((sum(counts_received), *sent.shape[1:]))
    with connected():
        dist.all_to_all_single(received, sent.contiguous(), list(counts_received), list(counts_sent))
    return received


def counts_of_all(count: int, shard: RowShard, device: torch.device) -> list[int]:
    """The number that each rank gives, by rank."""
    mine_W = torch.full((shard.world,), count, device=device)
    return _swapped(mine_W)


def from_all(local: Tensor, counts: Sequence[int]) -> Tensor:
    """Every rank's rows one after another, on every rank; rank r has `counts[r]`."""
    world = len(counts)
    return exchange(local.repeat(world, *(1 for _ in local.shape[1:])), [len(local)] * world, counts)


def largest(tensor: Tensor) -> Tensor:
    """The largest of all ranks' numbers, in place, one by one."""
    with connected():
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor


def summed_for_each(partial: Tensor, counts: Sequence[int], shard: RowShard) -> Tensor:
    """The sum over ranks of their partial results, each rank its own `counts[rank]` rows: a reduce-scatter of rows."""
    mine = counts[shard.rank]
    received = exchange(partial, counts, [mine] * shard.world)
    return received.view(shard.world, mine, *partial.shape[1:]).sum(0)


def fetch(table_RD: Tensor, rows_X: Tensor, shard: RowShard, *, sparse: bool = False) -> Tensor:
    """Rows of the whole table, [X, D], from the ranks that hold them. `rows_X` ascend and are distinct.

    In the backward pass each row's gradient goes back to its rank, where those of all ranks are summed: row-sparse
    with `sparse`.
    """
    bounds = torch.tensor(shard.bounds, device=rows_X.device, dtype=rows_X.dtype)
    ends_W = torch.cat([torch.searchsorted(rows_X, bounds), rows_X.new_tensor([len(rows_X)])])
    asked_W = torch.diff(ends_W, prepend=ends_W.new_zeros(1))
    counts_asked, counts_asked_of_me = asked_W.tolist(), _swapped(asked_W)
    rows_Y = exchange(rows_X, counts_asked, counts_asked_of_me) - shard.first
    fetched_XD: Tensor = _Fetch.apply(table_RD, rows_Y, counts_asked, counts_asked_of_me, sparse)
    return fetched_XD


def _swapped(numbers_W: Tensor) -> list[int]:
    """What each rank has for this one, of a number for each rank."""
    received_W = torch.empty_like(numbers_W)
    with connected():
        dist.all_to_all_single(received_W, numbers_W)
    numbers: list[int] = received_W.tolist()
    return numbers


class _Fetch(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, table_RD: Tensor, rows_Y: Tensor, asked: list[int], asked_of_me: list[int], sparse: bool
    ) -> Tensor:
        ctx.save_for_backward(rows_Y)
        ctx.asked, ctx.asked_of_me, ctx.sparse, ctx.shape = asked, asked_of_me, sparse, table_RD.shape
        return exchange(table_RD.index_select(0, rows_Y), asked_of_me, asked)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (rows_Y,) = ctx.saved_tensors
        grad_YD = exchange(grads[0], ctx.asked, ctx.asked_of_me)
        grad_RD = (
            torch.sparse_coo_tensor(rows_Y[None], grad_YD, ctx.shape, check_invariants=False)
            if ctx.sparse
            else grad_YD.new_zeros(ctx.shape).index_add_(0, rows_Y, grad_YD)
        )
        return grad_RD, None, None, None, None
