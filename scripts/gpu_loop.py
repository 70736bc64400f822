"""What the parts of the GPU check share: settings, the loop of `seqrec train` over a log in memory, and its memory.

Memory is torch's own count of what tensors took at their peak; on a CPU it is not counted.
"""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch

from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows
from seqrec_cli.config.compose import compose
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.training.fitting import Listener
from seqrec_cli.training.loop import Loop
from seqrec_cli.training.precision import Precision

Work = tuple[str, Callable[[], dict[str, Any]]]


def config(words: list[str], device: torch.device, tiny: bool) -> TrainConfig:
    """The settings of `seqrec train`, in bf16 on a GPU unless they say otherwise."""
    chosen = [
        f"hardware.device={device}",
        "hardware.precision=fp32" if device.type == "cpu" else "hardware.precision=bf16",
    ]
    small = ["model.max_length=12", "trainer.batch_size=8"] if tiny else []
    return cast(TrainConfig, validate("train", compose("train", [*chosen, *words, *small])))


def loop_of(cfg: TrainConfig, log: PackedLog, device: torch.device) -> Loop:
    """The loop of `seqrec train` in the settings' number format, before its first step."""
    precision = Precision(device, cfg.hardware.precision)  # type: ignore[arg-type]
    model, objective = fresh_model(cfg, log, device), objective_for(cfg, log, device)
    model.train()
    return Loop(
        model,
        objective,
        training_rows(cfg, objective, log, device=device),
        cfg=cfg.trainer,
        precision=precision,
        validate=dict,
        header={},
        folder=Path(),
        listener=Listener(),
    )


def forget(device: torch.device) -> None:
    """What earlier work has left, and its peak."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int | None:
    """The most that tensors have taken since; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
