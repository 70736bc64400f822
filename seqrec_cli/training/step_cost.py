"""What a training step costs, measured on real batches: peak memory, floating-point operations, seconds.

Legend: P timed steps.
"""

import contextlib
import math
import time
import weakref
from collections.abc import Callable, Generator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seqrec_cli.config.schema import TrainerConfig
from seqrec_cli.data.batch import Batch, count_targets
from seqrec_cli.data.batching import BatchedRows
from seqrec_cli.data.devices import forked_random, wait_for
from seqrec_cli.data.sizes import exact_sizes
from seqrec_cli.kernels.registry import FLOPS
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import Objective
from seqrec_cli.training.fitting import Listener
from seqrec_cli.training.loop import Loop
from seqrec_cli.training.precision import Precision

WARM_UP_STEPS = 2  # the first calls choose kernels and fetch memory
TIMED_SECONDS = 2.0
COUNTED_ROWS = 8  # whose operations stand for all others


def forward_backward(model: Recommender, objective: Objective, batch: Batch, *, precision: Precision) -> None:
    """The forward and backward pass of a step. The model is left as it was: no gradients, the same buffers, random
    state and mode. Nothing is compiled."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    model.train()
    try:
        with forked_random(precision.device), torch.compiler.set_stance("force_eager"):
            batch = batch.to(precision.device)
            with precision.autocast():
                losses = [objective.loss(trainable, batch) for trainable in model.trainable_models()]
            torch.stack(losses).sum().backward()
    finally:
        model.zero_grad(set_to_none=True)
        for buffer, before in buffers:
            buffer.copy_(before)
        for module, training in modes:
            module.training = training


def peak_bytes(model: Recommender, objective: Objective, batch: Batch, *, precision: Precision) -> int:
    """The most that tensors take at once in a forward and backward pass, gradients included, the model's own not."""
    with _LiveBytes(model) as live:
        forward_backward(model, objective, batch, precision=precision)
    return live.peak


class _LiveBytes(TorchDispatchMode):
    """Counts the storages that operations make, until they are freed."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in chain(model.parameters(), model.buffers())}
        self.live = self.peak = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
                storage = leaf.untyped_storage()
                if storage._cdata not in self.known:
                    self.known.add(storage._cdata)
                    self.live += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return out

    def _freed(self, key: int, size: int) -> None:
        self.known.remove(key)
        self.live -= size


def _added_product(sum_shape: Any, a_shape: Any, b_shape: Any, *, out_shape: Any = None, **scales: Any) -> int:
    return 2 * math.prod(a_shape) * int(b_shape[-1])


IN_PLACE = {torch.ops.aten.addmm_: _added_product, torch.ops.aten.baddbmm_: _added_product}  # torch's counter has none


def count_flops(model: Recommender, objective: Objective, batch: Batch, *, precision: Precision) -> int:
    """Floating-point operations of a forward and backward pass: two for each multiply-add of a matrix product.

    Attention counts as plain products over the whole square, causal or not, for what a fused kernel computes again in
    its backward pass is not work of the model; so call it with a few rows.
    """
    from torch.utils.flop_counter import FlopCounterMode  # it imports Triton

    counter = FlopCounterMode(display=False, custom_mapping=IN_PLACE | FLOPS)
    with exact_sizes(), counter, sdpa_kernel(SDPBackend.MATH):
        forward_backward(model, objective, batch, precision=precision)
    return int(counter.get_total_flops())


def whole_rows(lengths_B: np.ndarray, width: int) -> int:
    """Positions of a batch of rows that are all `width` wide."""
    return len(lengths_B) * width


def epoch_flops(
    model: Recommender,
    objective: Objective,
    rows: BatchedRows,
    *,
    precision: Precision,
    worked: Callable[[np.ndarray, int], int] = whole_rows,
) -> float:
    """Floating-point operations of an epoch: those of a few usual rows, by the positions that the layers work on in a
    batch of rows of these lengths and in one so wide (`worked`)."""
    tokens_S = padded_events(rows)
    usual = next(rows.epoch(0, int(np.argsort(tokens_S)[len(tokens_S) // 2])))
    few = usual.part(len(usual) // 2, min(len(usual) // 2 + COUNTED_ROWS, len(usual)))
    counted = count_flops(model, objective, few, precision=precision)
    positions = sum(worked(lengths_B, int(lengths_B.max())) for lengths_B, _ in rows.sizes(0))
    return counted / worked(np.array(few.lengths()), few.items_BL.shape[1]) * float(positions)


def padded_events(rows: BatchedRows) -> np.ndarray:
    """Rows times length of each batch of epoch 0."""
    return np.array([len(lengths_B) * lengths_B.max() for lengths_B, _ in rows.sizes(0)])


def timed_steps(
    model: Recommender, objective: Objective, rows: BatchedRows, *, cfg: TrainerConfig, precision: Precision
) -> np.ndarray:
    """[3, P]: padded events, targets and seconds of steps of epoch 0, waiting for the batch included. Takes about two
    seconds.

    Trains `model`, which is to be thrown away. Writes no file. Raises SeqrecError as training does.
    """
    loop = Loop(
        model,
        objective,
        rows,
        cfg=cfg,
        precision=precision,
        validate=dict,
        header={},
        folder=Path(),
        listener=Listener(),
    )
    model.train()
    steps, left = [], TIMED_SECONDS
    last = time.perf_counter()
    with contextlib.closing(_twice(rows)) as batches:
        for batch in batches:
            loop.run_step(batch)
            wait_for(precision.device)
            now = time.perf_counter()
            steps.append((batch.items_BL.numel(), count_targets(batch), now - last))
            left, last = left - (now - last) * (len(steps) > WARM_UP_STEPS), now
            if len(steps) > WARM_UP_STEPS and left <= 0:
                break
    return np.array(steps[WARM_UP_STEPS:] or steps[-1:]).T


def _twice(rows: BatchedRows) -> Generator[Batch, None, None]:
    """Epoch 0, and again where it is short."""
    for _ in range(2):
        yield from rows.epoch(0)
