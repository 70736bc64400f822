"""AdamW over two groups of parameters, the learning rate as a function of the step, and one update."""

import math

import torch
from torch import nn

from seqrec_cli.config.schema import TrainerConfig
from seqrec_cli.training.sparse import RowAdamW, row_tables


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
    """AdamW (Loshchilov & Hutter, 2019), its update fused into one pass over the parameters; tables with row-sparse
    gradients are updated by the row."""
    decayed, undecayed = parameter_groups(model)
    by_row = row_tables(model)
    found = {id(p) for p in by_row}
    groups = [
        {"params": decayed, "weight_decay": cfg.weight_decay, "by_row": False},
        {"params": [p for p in undecayed if id(p) not in found], "weight_decay": 0.0, "by_row": False},
        {"params": by_row, "weight_decay": 0.0, "by_row": True},
    ]
    kind = RowAdamW if by_row else torch.optim.AdamW
    return kind([g for g in groups if g["params"]], lr=cfg.lr, betas=cfg.betas, fused=True)


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


def update(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, lr: float, clip_norm: float | None) -> None:
    """Unscale, clip, step, in that order. With fp16 a step whose gradients overflowed is left out."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    if clip_norm is not None:
        scaler.unscale_(optimizer)
        clip([p for group in optimizer.param_groups for p in group["params"]], clip_norm)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)


def clip(parameters: list[nn.Parameter], clip_norm: float) -> None:
    """Scale all gradients by min(1, clip_norm / their norm). Of a row-sparse gradient the rows it holds count."""
    gradients = []
    for p in parameters:
        if p.grad is not None and p.grad.is_sparse:
            p.grad = p.grad.coalesce()  # no work where a table's hook has done it
            gradients.append(p.grad.values())
        elif p.grad is not None:
            gradients.append(p.grad)
    norm = nn.utils.get_total_norm(gradients, foreach=True)
    torch._foreach_mul_(gradients, (clip_norm / (norm + 1e-6)).clamp(max=1.0))
