"""Bytes of tensors that live at the height of a training step, known before the step is taken.

Two small steps of two and four rows are watched, operation by operation. Rows add to the same operations, so what
lives after each of them is a line in the number of rows, and the height for any batch is the highest of the lines.

Legend: T operations of a step, B rows.
"""

import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import Objective
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.rehearsal import crop, loss_of, rehearsing

ROWS = (2, 4)  # never one: a dimension of size one hides copies that larger batches make


@dataclass(frozen=True)
class LiveBytes:
    """Bytes as lines in the number of rows, all as long as the longest."""

    base_T: np.ndarray  # of tensors that live after each operation
    each_T: np.ndarray
    saved_base: float  # of those that forward keeps for backward
    saved_each: float

    def height(self, rows: int) -> int:
        """The most that live at once, gradients included; not the model's own, nor what was left out."""
        return int((self.base_T + rows * self.each_T).max())

    def saved(self, rows: int) -> int:
        """The activations kept for backward."""
        return int(self.saved_base + rows * self.saved_each)


def live_bytes(
    model: Recommender, objective: Objective, batch: Batch, precision: Precision, leave_out: Collection[int] = ()
) -> LiveBytes:
    """The lines for batches like `batch` (on the host). Weights stay as they are.

    Tensors [..., w] with w in `leave_out` are not counted: the logits of a chunked softmax do not grow with rows.
    """
    length = int(batch.items_BL.shape[1])
    watched = [watch(model, objective, crop(batch, rows, length, length), precision, leave_out) for rows in ROWS]
    (few_T, saved_few), (more_T, saved_more) = watched
    if len(few_T) != len(more_T):  # other operations for other sizes: the heights alone can be compared
        few_T, more_T = few_T.max(keepdims=True), more_T.max(keepdims=True)
    apart = ROWS[1] - ROWS[0]
    each_T, saved_each = (more_T - few_T) / apart, (saved_more - saved_few) / apart
    return LiveBytes(few_T - ROWS[0] * each_T, each_T, saved_few - ROWS[0] * saved_each, saved_each)


def watch(
    model: Recommender, objective: Objective, batch: Batch, precision: Precision, leave_out: Collection[int] = ()
) -> tuple[np.ndarray, int]:
    """One forward and backward pass: the bytes that live after each operation, [T], and those kept for backward."""
    own = {_key(tensor) for tensor in chain(model.parameters(), model.buffers())}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _key(tensor) not in own:
            saved[_key(tensor)] = tensor.untyped_storage().nbytes()
        return tensor.detach()  # the tensor itself could hold the graph that holds it

    watcher = _Watcher(own, leave_out)
    with rehearsing(model, precision), watcher:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = loss_of(model, objective, batch, precision)
        bytes_saved = sum(saved.values())
        loss.backward()
        del loss
        model.zero_grad(set_to_none=True)
    return np.array(watcher.trace, np.float64), bytes_saved


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class _Watcher(TorchDispatchMode):
    """Counts the storages that operations make, until they die."""

    def __init__(self, own: Collection[int], leave_out: Collection[int]) -> None:
        super().__init__()
        self.leave_out = leave_out
        self.known = dict.fromkeys(own, 0)
        self.live = 0
        self.trace: list[int] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
                self._see(leaf)
        self.trace.append(self.live)
        return out

    def _see(self, tensor: Tensor) -> None:
        storage, key = tensor.untyped_storage(), _key(tensor)
        if key not in self.known:
            out = tensor.ndim >= 2 and tensor.shape[-1] in self.leave_out
            self.known[key] = 0 if out else storage.nbytes()
            self.live += self.known[key]
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.live -= self.known.pop(key)
