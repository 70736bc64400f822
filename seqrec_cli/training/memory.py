"""Will a training step fit in memory? What it needs, what there is, and what to lower."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from seqrec_cli.config.objective import SoftmaxConfig
from seqrec_cli.config.schema import TrainConfig, TrainerConfig
from seqrec_cli.data.batch import Batch, count_targets
from seqrec_cli.data.devices import memory_free
from seqrec_cli.machine import group_left, system_left
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import Objective
from seqrec_cli.training.optim import row_tables
from seqrec_cli.training.precision import DTYPES, Precision
from seqrec_cli.training.step_cost import peak_bytes

MOMENTS = 2  # AdamW keeps two numbers for each parameter
# A CPU's allocator keeps freed blocks (`precision.keep_freed_memory`): beside the tensors alive at a step's peak
# the process held 40 to 120 % of their size again (SASRec, BERT4Rec and BST, fp32 and bf16, 0.4 to 2 GB).
KEPT_FREE = {"cpu": 1.0}
# Bytes that a step may hold for each of the model's outputs (widths of all layers together). Of an event: the output,
# its gradient, and what norm, activation and dropout keep. Few layers see pairs of event and candidate.
BYTES_OF_AN_EVENT, BYTES_OF_A_PAIR = 16, 4


@dataclass(frozen=True)
class StepMemory:
    """Bytes at the peak of a training step; the model's own are there before it."""

    model: int
    gradients: int
    optimizer: int
    activations: int = 0  # and all else that grows with the batch
    loss_scratch: int = 0
    kept_free: int = 0  # freed by tensors and kept by the allocator

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


def bytes_of(tensors: Sequence[torch.Tensor]) -> int:
    """Their elements' bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def fixed_memory(model: nn.Module) -> StepMemory:
    """What a step needs whatever the batch. The model may stand on torch's meta device, where it takes nothing.

    Row-sparse gradients hold the rows of one batch and are not part of it.
    """
    trained = bytes_of([p for p in model.parameters() if p.requires_grad])
    own = bytes_of([*model.parameters(), *model.buffers()])
    return StepMemory(model=own, gradients=trained - bytes_of(row_tables(model)), optimizer=MOMENTS * trained)


def estimated_memory(model: Recommender, objective: Objective, batch: Batch, *, precision: Precision) -> StepMemory:
    """More than a step of `batch` needs, from sizes alone: several times as much where layers share memory."""
    events, length = batch.items_BL.numel(), batch.items_BL.shape[1]
    pairs = 0 if batch.candidates_BC is None else events * batch.candidates_BC.shape[1]
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    outputs = sum(p.shape[-1] if id(p) in tables else p.shape[0] for p in model.parameters() if p.ndim)
    outputs += length * sum(getattr(module, "heads", 0) for module in model.modules())  # attention's weights
    activations = outputs * (events * BYTES_OF_AN_EVENT + pairs * BYTES_OF_A_PAIR)
    return _with_batch(model, objective, batch, precision=precision, activations=activations)


def measured_memory(
    model: Recommender, objective: Objective, batch: Batch, *, precision: Precision, available: int | None
) -> StepMemory:
    """What a step of `batch`, whose longest rows come first, needs: one forward and backward pass is watched.

    Where not even half of the available memory is sure to hold it, the first rows alone are tried, and the others
    taken to need as much.
    """
    fixed, sure = fixed_memory(model), estimated_memory(model, objective, batch, precision=precision)
    rows, growing = len(batch), sure.activations + sure.kept_free
    if available is not None and (left := available // 2 - (sure.total - sure.model - growing)) < growing:
        rows = max(1, rows * max(left, 0) // growing)
    tried = batch.part(0, rows)
    peak = peak_bytes(model, objective, tried, precision=precision)
    scratch = _loss_scratch(model, objective, tried, precision=precision)
    activations = max(peak - fixed.gradients - scratch, 0) * len(batch) // rows
    return _with_batch(model, objective, batch, precision=precision, activations=activations)


def _with_batch(
    model: Recommender, objective: Objective, batch: Batch, *, precision: Precision, activations: int
) -> StepMemory:
    kept = int(activations * KEPT_FREE.get(precision.device.type, 0.0))
    scratch = _loss_scratch(model, objective, batch, precision=precision)
    return replace(fixed_memory(model), activations=activations, loss_scratch=scratch, kept_free=kept)


def _loss_scratch(model: Recommender, objective: Objective, batch: Batch, *, precision: Precision) -> int:
    dtype = DTYPES.get(precision.name, torch.float32)
    return objective.scratch_bytes(model.num_items, count_targets(batch), dtype=dtype, device=precision.device)


def available_memory(device: torch.device) -> int | None:
    """Bytes that can still be had: free on the GPU, else the less of the system's and the control group's; the least of
    the three where a GPU shares the system's memory.

    None where the system does not tell.
    """
    if device.type in ("cuda", "xpu"):
        return memory_free(device)
    known = [left for left in (system_left(), group_left(), memory_free(device)) if left is not None]
    return min(known, default=None)


def memory_warning(
    model: Recommender, objective: Objective, batch: Batch, *, precision: Precision, cfg: TrainConfig
) -> str | None:
    """For a run whose model stands and whose largest batch is `batch`, before its first step.

    A pass is tried only where the sizes alone do not say that all is well.
    """
    batch, available = largest_part(batch, cfg.trainer), available_memory(precision.device)
    memory = estimated_memory(model, objective, batch, precision=precision)
    if available is None or memory.total - memory.model <= available:
        return None
    if model.shard is not None:  # a pass would wait for the other processes
        return shortage(
            _with_batch(model, objective, batch, precision=precision, activations=0), available, cfg, batch=batch
        )
    memory = measured_memory(model, objective, batch, precision=precision, available=available)
    return shortage(memory, available, cfg, batch=batch)


def shortage(memory: StepMemory, available: int | None, cfg: TrainConfig, *, batch: Batch | None) -> str | None:
    """One line when a step may not fit, with what to lower; None when it will, or when nobody knows.

    `batch`: what `memory` holds for, of a model that is there already; None: for any batch, and the model is not.
    """
    needed = memory.total - (0 if batch is None else memory.model)
    if available is None or needed <= available:
        return None
    growing = memory.activations + memory.kept_free
    fitting = 0 if batch is None else max(available - needed + growing, 0) * len(batch) // max(growing, 1)
    if batch is not None and fitting:
        name, now, a_row = _batch_setting(cfg.trainer, batch)
        lower = [
            f"trainer.{name} (now {now}; {fitting * a_row} fits)",
            f"model.max_length (now {cfg.model.max_length})",
        ]
    else:
        lower = ["model.embed_dim", "the number of items (dataset.item_core)"]
        if isinstance(cfg.objective, SoftmaxConfig) and memory.loss_scratch > available // 2:
            lower.insert(0, f"objective.chunk_mb (now {cfg.objective.chunk_mb})")
    return (
        f"WARNING: out of memory ahead: a training step needs about {in_bytes(needed)} "
        f"and {in_bytes(available)} is free; lower {' or '.join(lower)}"
    )


def _batch_setting(cfg: TrainerConfig, batch: Batch) -> tuple[str, int, int]:
    """The setting that limits how much is worked on at once, its value, and what a row counts in it."""
    for name, tokens in (("micro_batch_tokens", cfg.micro_batch_tokens), ("batch_tokens", cfg.batch_tokens)):
        if tokens is not None:
            return name, tokens, batch.items_BL.shape[1]
    if batch.ends_BC is None or batch.labels_BC is None:
        return "batch_size", cfg.batch_size, 1
    return "batch_size", cfg.batch_size, int(batch.labels_BC.sum(dim=1).max())  # rows of several targets: these count


def in_bytes(size: float) -> str:
    """A size in the unit that keeps it short."""
    for unit, scale in (("GB", 2**30), ("MB", 2**20), ("kB", 2**10)):
        if size >= scale:
            return f"{size / scale:,.{1 if size < 100 * scale else 0}f} {unit}"
    return f"{size:.0f} B"


def largest_part(batch: Batch, cfg: TrainerConfig) -> Batch:
    """The most of a batch that a step works on at a time."""
    return batch if cfg.micro_batch_tokens is None else batch.most_of_a_part(cfg.micro_batch_tokens)
