"""Will a training step fit? What it needs, what there is, and what to lower."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from seqrec_cli.config.schema import TrainConfig, TrainerConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives import sampled_losses
from seqrec_cli.objectives.contract import Objective
from seqrec_cli.objectives.contrast import ContrastObjective
from seqrec_cli.objectives.losses import chunk_rows
from seqrec_cli.training.live import live_bytes
from seqrec_cli.training.loop import count_targets
from seqrec_cli.training.precision import DTYPES, Precision
from seqrec_cli.training.sparse import row_tables

SAMPLED_SCORE = 16  # bytes beside a sampled score: it in fp32 twice, its gradient, masks
MOMENTS = 2  # AdamW keeps two numbers for each parameter
# A CPU's allocator keeps freed blocks (`precision.keep_freed_memory`): beside the tensors alive at a step's height
# the process held 40 to 120 % of their size again (SASRec, BERT4Rec and BST, fp32 and bf16, 0.4 to 2 GB).
KEPT_FREE = {"cpu": 1.0}


@dataclass(frozen=True)
class StepMemory:
    """Bytes at the height of a training step; the model's own are there before it."""

    model: int
    gradients: int
    optimizer: int
    activations: int = 0  # kept from forward for backward
    temporary: int = 0  # what else lives at the height
    loss_chunk: int = 0
    kept_free: int = 0  # the allocator's

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


@dataclass(frozen=True)
class LossChunk:
    """A softmax's scratch memory in bytes: what one chunk takes, all targets' logits at once, and the budget if set."""

    used: int
    unchunked: int
    budget: int | None
    width: int  # of a row of logits


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


def loss_chunk(model: Recommender, objective: Objective, precision: Precision, targets: int) -> LossChunk | None:
    """The chunk of a softmax over the corpus or over samples; None for an objective that has none."""
    if isinstance(objective, ContrastObjective):
        width = objective.scores_a_target(model.num_items)
        if width is None:
            return None
        whole = targets * width * SAMPLED_SCORE
        return LossChunk(min(sampled_losses.chunk_scores(precision.device) * SAMPLED_SCORE, whole), whole, None, width)
    budget_mb = getattr(objective, "chunk_mb", None)
    if budget_mb is None:
        return None
    itemsize = DTYPES.get(precision.name, torch.float32).itemsize
    rows, row = chunk_rows(model.num_items, itemsize, budget_mb, precision.device), model.num_items * itemsize
    return LossChunk(min(rows, targets) * row, targets * row, budget_mb * 2**20, model.num_items)


def _logits(chunk: LossChunk | None, model: nn.Module, length: int) -> tuple[int, ...]:
    """The widths by which a chunk's tensors are known; none where others have them too: better counted twice."""
    if chunk is None:
        return ()
    others = {length, *(size for parameter in model.parameters() for size in parameter.shape[1:])}
    widths = (chunk.width, chunk.width + 1)
    return () if others & set(widths) else widths


def step_memory_law(
    model: Recommender, objective: Objective, batch: Batch, precision: Precision, quick: bool = False
) -> Callable[[int], StepMemory]:
    """What a step needs, as a function of its rows, all as long as the longest of `batch` (its like on the host).

    Costs a few steps of a few rows; `quick` fewer of them, and is too high for a model that works in pieces.
    """
    fixed = fixed_memory(model)
    targets_a_row = -(-count_targets(batch) // len(batch))
    chunk = loss_chunk(model, objective, precision, targets_a_row)
    logits = _logits(chunk, model, batch.items_BL.shape[1])
    live = live_bytes(model, objective, batch, precision, logits, quick)

    def law(rows: int) -> StepMemory:
        targets = rows * targets_a_row
        saved = live.saved(rows, targets)
        temporary = max(live.height(rows, targets) - saved - fixed.gradients, 0)
        chunk = loss_chunk(model, objective, precision, targets)
        kept = int((saved + temporary) * KEPT_FREE.get(precision.device.type, 0.0))
        used = 0 if chunk is None else chunk.used
        return StepMemory(fixed.model, fixed.gradients, fixed.optimizer, saved, temporary, used, kept)

    return law


def available_memory(device: torch.device) -> int | None:
    """Bytes that can still be had: free on the GPU, else the less of the system's and the control group's.

    None where the system does not tell.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    known = [left for left in (system_left(), group_left()) if left is not None]
    return min(known, default=None)


def system_left(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Linux's own estimate of what can be had without swapping."""
    try:
        for line in meminfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def group_left(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """What the control groups above this process leave it, in version 2 or 1; file caches count as free."""
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    left = []
    for _, controllers, path in lines:
        if controllers == "":
            names, base = ("memory.max", "memory.current", "inactive_file"), root
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            base = root / "memory"
        else:
            continue
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(base) and (found := _left_in(folder, *names)) is not None:
                left.append(found)
    return min(left, default=None)


def _left_in(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    try:
        most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(most - used + int(stat.get(cache, 0)), 0)
    except (OSError, ValueError):  # no such file, or "max": no limit
        return None


def memory_warning(
    memory: StepMemory,
    there: int,
    available: int | None,
    cfg: TrainConfig,
    law: Callable[[int], StepMemory] | None = None,
    batch: Batch | None = None,
) -> str | None:
    """One line when a step may not fit, with what to lower; None when it will, or when nobody knows.

    Of the need, `there` bytes are allocated already. With the law and the largest batch, the size that fits is named.
    """
    if available is None or memory.total - there <= available:
        return None
    lower = []
    if law is None or batch is None or law(1).total - there > available:
        chunk_mb = getattr(cfg.objective, "chunk_mb", None)
        if chunk_mb is not None and memory.loss_chunk > available // 2:
            lower = [f"objective.chunk_mb (now {chunk_mb})"]
        lower += ["model.embed_dim", "the number of items (dataset.item_core)"]
    else:
        fits = _most_rows(law, len(batch), available + there)
        name, now, each = _size_of_steps(cfg.trainer, batch)
        lower = [f"trainer.{name} (now {now}; {fits * each} fits)", f"model.max_length (now {cfg.model.max_length})"]
    return (
        f"WARNING: out of memory ahead: a training step needs about {in_bytes(memory.total - there)} "
        f"and {in_bytes(available)} is free; lower {' or '.join(lower)}"
    )


def _size_of_steps(cfg: TrainerConfig, batch: Batch) -> tuple[str, int, int]:
    """The setting that says how much is worked on at once, its value, and what one row adds to it."""
    for name, tokens in (("micro_batch_tokens", cfg.micro_batch_tokens), ("batch_tokens", cfg.batch_tokens)):
        if tokens is not None:
            return name, tokens, batch.items_BL.shape[1]
    return "batch_size", cfg.batch_size, _targets_a_row(batch)


def _targets_a_row(batch: Batch) -> int:
    """What one row adds to trainer.batch_size: 1, but for rows with a run of targets, which are counted themselves."""
    if batch.ends_BC is None or batch.labels_BC is None:
        return 1
    return int(batch.labels_BC.sum(dim=1).max())


def _most_rows(law: Callable[[int], StepMemory], rows: int, available: int) -> int:
    """The most rows whose step fits, between 1 (which does) and `rows` (which do not)."""
    fits, fails = 1, rows
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if law(middle).total <= available else (fits, middle)
    return fits


def in_bytes(size: float) -> str:
    """A size in the unit that keeps it short."""
    for unit, scale in (("GB", 2**30), ("MB", 2**20), ("kB", 2**10)):
        if size >= scale:
            return f"{size / scale:,.{1 if size < 100 * scale else 0}f} {unit}"
    return f"{size:.0f} B"


def at_once(cfg: TrainerConfig, batch: Batch) -> Batch:
    """The most of a batch that a step works on at a time."""
    return batch if cfg.micro_batch_tokens is None else batch.most_of_a_part(cfg.micro_batch_tokens)


def memory_outlook(
    model: Recommender, objective: Objective, batch: Batch, precision: Precision, cfg: TrainConfig
) -> str | None:
    """The warning for a run whose model stands and whose largest batch is `batch`, before its first step."""
    batch = at_once(cfg.trainer, batch)
    for quick in (True, False):
        law = step_memory_law(model, objective, batch, precision, quick)
        memory = law(len(batch))
        warning = memory_warning(memory, memory.model, available_memory(precision.device), cfg, law, batch)
        if warning is None:
            break
    return warning
