"""A training step tried on a few rows, so that what it costs is known before a real one is taken.

Legend: B rows, L history events.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import fields, replace

import torch
from torch import Tensor

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.sizes import exact_sizes
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import Objective
from seqrec_cli.training.precision import Precision

# What the loader knows of a batch, beside its events and targets.
KNOWN = ("positions_N", "masked_BM", "host_lengths_B", "host_taught_B")


def crop(batch: Batch, rows: int, length: int, targets: int | None = None) -> Batch:
    """`rows` copies of the batch's longest row, cut to `length` events and the first `targets` targets or candidates.

    None keeps them all.
    """
    take_B = batch.lengths_B.argmax().repeat(rows)
    parts: dict[str, Tensor] = {}
    for name in (f.name for f in fields(batch)):
        tensor = getattr(batch, name)
        if tensor is not None and name not in KNOWN:  # found again in targets_BL
            width = length if name.endswith(("_BL", "_BLK")) else targets
            parts[name] = tensor[take_B] if name.endswith("_B") else tensor[take_B, :width]
    parts["lengths_B"] = parts["lengths_B"].clamp(max=length)
    if batch.targets_BL is not None and targets is not None:
        parts["targets_BL"][:, :targets].clamp_(min=1)  # cloze: not every event is a target
        parts["targets_BL"][:, targets:] = 0
    if batch.ends_BC is not None:
        parts["ends_BC"] = parts["ends_BC"].clamp(max=length)
    unknown: dict[str, None] = dict.fromkeys(KNOWN)
    return replace(batch, **unknown, **parts)  # type: ignore[arg-type]


def loss_of(model: Recommender, objective: Objective, batch: Batch, precision: Precision) -> Tensor:
    """What a step minimises, in the run's number format."""
    batch = batch.to(precision.device)
    with precision.autocast():
        losses = [objective.loss(trainable, batch) for trainable in model.trainable_models()]
    return torch.stack(losses).sum()


@contextlib.contextmanager
def rehearsing(model: Recommender, precision: Precision) -> Iterator[None]:
    """Training mode; nothing is compiled, nor padded to `common_size`. Gradients, buffers (running statistics), random
    state and the model's mode are put back after it."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = [precision.device] if precision.device.type == "cuda" else []
    model.train()
    try:
        with torch.random.fork_rng(devices), torch.compiler.set_stance("force_eager"), exact_sizes():
            yield
    finally:
        model.zero_grad(set_to_none=True)
        for buffer, before in buffers:
            buffer.copy_(before)
        for module, training in modes:
            module.training = training
