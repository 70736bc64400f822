"""The processes that train one model together, and what they tell each other; with one process nothing is told.

A method of `current()` is called in all processes, in the same order: who leaves one out is waited for. The group is
started and ended by `training/process_group.py`; this room only speaks to it, so that models and objectives can, too.

Numbers of the host (`any`, `sum_array`, `from_first`, ...) travel by gloo, tensors of a GPU by nccl. Torch is imported
where there is somebody to tell.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Value = TypeVar("Value")


class ProcessLostError(RuntimeError):
    """Another process has ended, or was not heard of for too long."""


_lost: list[bool] = []


def lost() -> bool:
    """Whether this process has lost another one."""
    return bool(_lost)


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Errors of the connection, which gloo and nccl raise as any RuntimeError, by their own name."""
    try:
        yield
    except RuntimeError as error:
        _lost.append(True)
        said = re.sub(r"^\[\S+\] ", "", " ".join(str(error).split()))  # a line of the library's source comes first
        raise ProcessLostError(said.partition(". ")[0][:200]) from error


@dataclass(frozen=True)
class Processes:
    """This process among `count`, `local_count` of them on this machine; rank 0 is the first."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def several(self) -> bool:
        """Whether there is anybody to tell."""
        return self.count > 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes files and speaks to people."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """Its share of a list that all have: every `count`-th, so that neighbours of like size go to all."""
        return slice(self.rank, None, self.count)

    def sum(self, tensor: "Tensor") -> "Tensor":
        """The sum over all processes, in place, with the same bits in each; on the tensor's own device."""
        if self.several:
            import torch.distributed as dist

            with connected():
                dist.all_reduce(tensor)
        return tensor

    def sum_array(self, array: "np.ndarray") -> "np.ndarray":
        """The sum over all processes, in place. It is exact where each entry is one process's, and 0 in the others."""
        if self.several:
            import torch

            self.sum(torch.from_numpy(array))
        return array

    def gather_tensor(self, tensor: "Tensor") -> "list[Tensor]":
        """Everybody's tensor, all of one shape, by rank; on the tensor's own device."""
        if not self.several:
            return [tensor]
        import torch
        import torch.distributed as dist

        found = [torch.empty_like(tensor) for _ in range(self.count)]
        with connected():
            dist.all_gather(found, tensor)
        return found

    def any(self, flag: bool) -> bool:
        """Whether it is true of any."""
        return any(self.gather(flag))

    def gather(self, value: Value) -> list[Value]:
        """Everybody's value (anything that pickles), by rank."""
        if not self.several:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.count
        with connected():
            dist.all_gather_object(found, value)
        return found

    def from_first(self, value: Value) -> Value:
        """The first process's value (anything that pickles)."""
        if not self.several:
            return value
        import torch.distributed as dist

        found = [value]
        with connected():
            dist.broadcast_object_list(found, src=0)
        return found[0]

    def copy_from_first(self, tensors: "Sequence[Tensor]") -> None:
        """Overwrite the tensors, of the same shapes everywhere, by those of the first process."""
        if self.several:
            import torch.distributed as dist

            for tensor in tensors:
                dense = tensor.detach().contiguous()
                with connected():
                    dist.broadcast(dense, src=0)
                if dense.data_ptr() != tensor.data_ptr():
                    tensor.detach().copy_(dense)


def started(environment: Mapping[str, str] = os.environ) -> Processes | None:
    """Which of several processes this is, by the variables that torchrun sets; None if it was started alone."""
    if int(environment.get("WORLD_SIZE") or 1) < 2 or "RANK" not in environment:
        return None
    rank, count = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    return Processes(
        rank, count, int(environment.get("LOCAL_RANK", rank)), int(environment.get("LOCAL_WORLD_SIZE", count))
    )


ALONE = Processes()
_current = ALONE


def current() -> Processes:
    """Those that do the same work as this process just now: itself alone, unless all of them are within `together`."""
    return _current


@contextlib.contextmanager
def together(processes: Processes) -> Iterator[Processes]:
    """Within it all these processes do the same work, each its share; with `ALONE` this one works by itself, whatever
    the others do."""
    global _current
    before, _current = _current, processes
    try:
        yield processes
    finally:
        _current = before


def summed(tensor: "Tensor") -> "Tensor":
    """The sum over all processes, through which gradients flow: each process's loss may read what all put in, and what
    is learned from is the sum of their losses."""
    if not _current.several:
        return tensor
    from seqrec_cli.processes.sums import Summed

    total: Tensor = Summed.apply(tensor, _current)
    return total
