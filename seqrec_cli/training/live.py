"""Bytes of tensors that live at the height of a training step, known before the step is taken.

A few small steps are watched, operation by operation. More rows and targets go through the same operations, so what
lives after each of them is a plane over the two, and the height for any batch is the highest of the planes.

Legend: T operations of a step, S small steps.
"""

import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
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
from seqrec_cli.training.loop import count_targets
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.rehearsal import crop, loss_of, rehearsing

Sizes = tuple[tuple[int, int | None], ...]  # rows, and targets of each (None: all candidates)

# Never one: a dimension of size one hides copies that larger batches make. Few targets: each is a row of scores over
# the corpus.
SMALL: Sizes = ((2, 2), (4, 2), (2, 4))
SMALL_WITH_CANDIDATES: Sizes = ((2, None), (4, None), (16, None))
# For models that cut what they do into pieces.
LARGER: Sizes = ((16, 2), (32, 2), (16, 4))
LARGER_WITH_CANDIDATES: Sizes = ((16, None), (32, None))


@dataclass(frozen=True)
class LiveBytes:
    """Bytes as planes over (1, rows, targets), for rows as long as the longest."""

    planes_3T: np.ndarray  # of tensors that live after each operation
    saved_3: np.ndarray  # of those that forward keeps for backward

    def height(self, rows: int, targets: int) -> int:
        """The most that live at once, gradients included; not the model's own, nor what was left out."""
        return round(float((np.array([1, rows, targets]) @ self.planes_3T).max()))

    def saved(self, rows: int, targets: int) -> int:
        """The activations kept for backward."""
        return round(float(np.array([1, rows, targets]) @ self.saved_3))


def live_bytes(
    model: Recommender,
    objective: Objective,
    batch: Batch,
    precision: Precision,
    leave_out: Collection[int] = (),
    quick: bool = False,
) -> LiveBytes:
    """The planes for batches like `batch`. Weights stay as they are.

    Tensors [..., w] with w in `leave_out` are not counted: the logits of a chunked softmax do not grow with rows.
    `quick` trusts the smallest steps: too high for a model that cuts large batches into pieces.
    """
    windows = batch.targets_BL is not None
    small, larger = (SMALL, LARGER) if windows else (SMALL_WITH_CANDIDATES, LARGER_WITH_CANDIDATES)
    small = small[:2] if quick and not windows else small
    sizes_S3, watched = _watch_all(model, objective, batch, precision, leave_out, small)
    traces = [trace_T for trace_T, _ in watched]
    if len({len(trace_T) for trace_T in traces}) > 1:  # other operations for other sizes: heights alone can be compared
        sizes_S3, watched = _watch_all(model, objective, batch, precision, leave_out, larger)
        traces = [trace_T.max(keepdims=True) for trace_T, _ in watched]
    saved_S = np.array([saved for _, saved in watched], np.float64)
    solve = partial(np.linalg.lstsq, sizes_S3, rcond=None)
    return LiveBytes(solve(np.stack(traces))[0], solve(saved_S)[0])


def _watch_all(
    model: Recommender,
    objective: Objective,
    batch: Batch,
    precision: Precision,
    leave_out: Collection[int],
    sizes: Sizes,
) -> tuple[np.ndarray, list[tuple[np.ndarray, int]]]:
    crops = [crop(batch, rows, batch.items_BL.shape[1], targets) for rows, targets in sizes]
    watched = [watch(model, objective, small, precision, leave_out) for small in crops]
    return np.array([[1, len(small), count_targets(small)] for small in crops], np.float64), watched


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
