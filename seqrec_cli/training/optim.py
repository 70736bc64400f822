"""AdamW over two groups of parameters, the learning rate as a function of the step, and one update."""

import math

import torch
from torch import Tensor, nn

from seqrec_cli.config.schema import TrainerConfig


def parameter_groups(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(decayed, undecayed) trainable parameters.

    Decayed: weights of two or more dimensions. Undecayed: biases, norms and gains, and the tables of `nn.Embedding`:
    decay acts at every step, a row's gradient only when its item occurs, so decay would shrink rare items the most.
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    trainable = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trainable if p.ndim >= 2 and id(p) not in tables]
    chosen = {id(p) for p in decayed}
    return decayed, [p for p in trainable if id(p) not in chosen]


def build_optimizer(model: nn.Module, cfg: TrainerConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter, 2019), its update fused into one pass over the parameters."""
    decayed, undecayed = parameter_groups(model)
    groups = [
        {"params": decayed, "weight_decay": cfg.weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=cfg.lr, betas=cfg.betas, fused=True)


def learning_rate(cfg: TrainerConfig, step: int, total_steps: int) -> float:
    """The rate of step 1..total_steps: linear from lr / warmup_steps up to lr, then constant or half a cosine.

    Step `warmup_steps` runs at `lr`, the last step of a cosine at `final_lr * lr`. A warm-up longer than the run
    never reaches `lr`.
    """
    if step <= cfg.warmup_steps:
        return cfg.lr * step / cfg.warmup_steps
    if cfg.schedule == "constant":
        return cfg.lr
    done = min(1.0, (step - cfg.warmup_steps) / max(1, total_steps - cfg.warmup_steps))
    return cfg.lr * (cfg.final_lr + (1 - cfg.final_lr) * 0.5 * (1 + math.cos(math.pi * done)))


def update(
    loss: Tensor, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, lr: float, clip_norm: float | None
) -> None:
    """Backward, unscale, clip, step, in that order. With fp16 a step whose gradients overflowed is left out."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    scaler.scale(loss).backward()
    if clip_norm is not None:
        scaler.unscale_(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, clip_norm, foreach=True)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
