"""What cannot fit in any memory here, by arithmetic alone: refused before anything of that size is allocated.

A step's memory in earnest is `memory.py`'s, which warns. Here are lower bounds: what is refused is certain to fail.

Legend: B rows, L history events, N targets of a batch, K negatives.
"""

from collections.abc import Iterator

import torch
from pydantic import BaseModel
from torch import nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.objective import NegativesConfig, PrefixConfig
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.machine import GIB, memory_left
from seqrec_cli.training.memory import available_memory, fixed_memory

BYTES_OF_AN_ITEM = 8  # int64


def most_memory(device: torch.device) -> int | None:
    """Bytes that can be had at most on a device; None if unknown."""
    return memory_left() if device.type == "cpu" else available_memory(device)


def refuse_too_much(what: str, needed: float, most: int | None, *, lower: list[str]) -> None:
    """Raises SeqrecError where so many bytes cannot be had; `lower`: settings with their values, best first."""
    if most is None or needed <= most:
        return
    settings = f"lower {' or '.join(lower)}" if lower else "lower model.embed_dim, or dataset.item_core to fewer items"
    raise SeqrecError(
        f"no memory for {what}: at least {needed / GIB:,.1f} GiB, and {most / GIB:,.1f} GiB can be had; {settings}"
    )


def refuse_large_model(cfg: TrainConfig, sketch: nn.Module, most: int | None) -> None:
    """Of a model on torch's meta device: its weights, their gradients and AdamW's moments."""
    parameters = [p for p in sketch.parameters() if p.numel()]
    if parameters:
        largest = max(parameters, key=torch.Tensor.numel)
        settings = _settings_of(cfg.model, tuple(largest.shape), "model.")
        refuse_too_much("the model with its optimizer", fixed_memory(sketch).total, most, lower=settings)


def refuse_many_negatives(cfg: TrainConfig, rows: int, longest: int, *, most: int | None) -> None:
    """Of `rows` training rows, none longer than `longest`: the ids of one batch's negatives."""
    objective, trainer = cfg.objective, cfg.trainer
    if not isinstance(objective, NegativesConfig | PrefixConfig):
        return
    L = max(1, min(longest, cfg.model.max_length))
    B = min(rows, trainer.batch_size if trainer.batch_tokens is None else max(1, trainer.batch_tokens // L))
    shared = objective.shared if isinstance(objective, NegativesConfig) else "sequence"
    one_a_row = isinstance(objective, NegativesConfig) and objective.one_a_row
    drawn = {"position": B if one_a_row else B * L, "sequence": B, "batch": 1}[shared]
    name, now = ("batch_size", B) if trainer.batch_tokens is None else ("batch_tokens", trainer.batch_tokens)
    lower = [f"objective.negatives (now {objective.negatives:,})", f"trainer.{name} (now {now:,})"]
    each = objective.negatives
    if isinstance(objective, NegativesConfig) and objective.sampling == "hard":
        each = objective.from_loader
        lower.insert(1, f"objective.pool (now {objective.pool:,})")
    needed = drawn * each * BYTES_OF_AN_ITEM
    refuse_too_much("a batch's sampled items", needed, most, lower=lower)
    if shared != "position":  # one vector each; for positions they are looked up
        width = getattr(cfg.model, "embed_dim", 1)
        refuse_too_much("the vectors of a batch's sampled items", needed * width / 2, most, lower=lower)


def _settings_of(settings: BaseModel, shape: tuple[int, ...], prefix: str) -> list[str]:
    """The settings that a shape is made of, as `model.embed_dim (now 100,000)`: that one, then the largest first."""
    # Other widths often follow from embed_dim.
    found = sorted(_numbers(settings, prefix), key=lambda pair: (not pair[0].endswith("embed_dim"), -pair[1]))
    made_of = [(name, value) for name, value in found if any(_is_of(size, value) for size in shape)]
    return [f"{name} (now {value:,})" for name, value in made_of[:2]]


def _numbers(settings: BaseModel, prefix: str) -> Iterator[tuple[str, int]]:
    for name, value in settings:
        if isinstance(value, int) and not isinstance(value, bool) and value > 1:
            yield prefix + name, value
        elif isinstance(value, tuple) and value and all(isinstance(width, int) for width in value):
            yield prefix + name, max(value)
        elif isinstance(value, dict):
            for key, member in value.items():
                if isinstance(member, BaseModel):
                    yield from _numbers(member, f"{prefix}{name}.{key}.")


def _is_of(size: int, value: int) -> bool:
    """A table has a row or two more than its setting says, and layers stand side by side in one."""
    return value <= size <= value + 2 or (size % value == 0 and size // value <= 8)
