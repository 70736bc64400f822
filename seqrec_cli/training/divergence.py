"""What ends a run that has diverged, in one line that says what to change."""

import math
from typing import NoReturn

import torch
from torch import nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainerConfig

SMALLEST_SCALE = 2.0**-10  # fp16: below, gradients overflow whatever the loss is scaled by


def refuse_divergence(loss: float, scaler: torch.amp.GradScaler, cfg: TrainerConfig, *, step: int) -> None:
    """Raises SeqrecError where the loss is no finite number, or fp16 gradients overflow at every scale."""
    if not math.isfinite(loss):
        _refuse(f"the loss became {loss} at step {step}", cfg)
    if scaler.is_enabled() and scaler.get_scale() < SMALLEST_SCALE:
        _refuse(f"fp16 gradients overflow at every scale (step {step})", cfg)


def refuse_infinite_weights(model: nn.Module, cfg: TrainerConfig, *, step: int) -> None:
    """Raises SeqrecError where a weight is no finite number. A GPU is waited for once."""
    finite = torch.stack([torch.isfinite(p).all() for p in model.parameters()]).all()
    if not finite.item():
        _refuse(f"the weights are no longer finite at step {step}", cfg)


def _refuse(what: str, cfg: TrainerConfig) -> NoReturn:
    clip = "" if cfg.clip_norm is not None else ", clip gradients (trainer.clip_norm=5)"
    raise SeqrecError(f"{what}; lower trainer.lr (now {cfg.lr:g}; try a tenth){clip}, or use hardware.precision=fp32")
