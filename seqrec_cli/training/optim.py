"""AdamW, for tables with row-sparse gradients by the row; the learning rate as a function of the step; one update.

Legend: V rows of a table, R rows a step used, D width.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.config.schema import TrainerConfig
from seqrec_cli.models.layers.row_shard import RowShard

NO_SHARDS: Mapping[int, RowShard] = MappingProxyType({})


def parameter_groups(model: nn.Module, decay_embeddings: bool = False) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(decayed, undecayed) trainable parameters.

    Decayed: weights of two or more dimensions. Undecayed: biases, norms and gains, and the tables of `nn.Embedding`:
    decay acts at every step, a row's gradient only when its item occurs, so decay would shrink rare items the most.
    With `decay_embeddings` it does, as in BERT's optimizer.
    """
    found = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    tables = set() if decay_embeddings else found
    trainable = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trainable if p.ndim >= 2 and id(p) not in tables]
    chosen = {id(p) for p in decayed}
    return decayed, [p for p in trainable if id(p) not in chosen]


def build_optimizer(model: nn.Module, cfg: TrainerConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter, 2019), its update fused into one pass over the parameters; tables with row-sparse
    gradients are updated by the row."""
    decayed, undecayed = parameter_groups(model, cfg.decay_embeddings)
    by_row = row_tables(model)
    found = {id(p) for p in by_row}
    groups = [
        {"params": decayed, "weight_decay": cfg.weight_decay, "by_row": False},
        {"params": [p for p in undecayed if id(p) not in found], "weight_decay": 0.0, "by_row": False},
        {"params": by_row, "weight_decay": 0.0, "by_row": True},
    ]
    kind = RowAdamW if by_row else torch.optim.AdamW
    return kind([g for g in groups if g["params"]], lr=cfg.lr, betas=cfg.betas, fused=True)


def row_tables(model: nn.Module) -> list[Tensor]:
    """The tables whose gradients are row-sparse."""
    return [m.weight for m in model.modules() if isinstance(m, nn.Embedding) and m.sparse]


class RowAdamW(torch.optim.AdamW):
    """Fused AdamW; parameters of groups with `by_row` have row-sparse gradients, and no decay.

    Only rows with a gradient move, and only their averages: the rule of torch's SparseAdam ("lazy Adam"), with eps
    where AdamW has it. With every row used at every step it equals AdamW; otherwise it differs in two ways. A row
    that is not used stands still, where AdamW would go on along its old average; and its averages do not fade
    meanwhile. The correction for their start counts all steps, as AdamW's does.
    """

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], fused: bool) -> None:
        super().__init__(groups, lr=lr, betas=betas, fused=fused)
        # The scaler of fp16 then looks for overflows itself and leaves the whole step out, rows included.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of all groups."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["by_row"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group["by_row"]:
                for table_VD in group["params"]:
                    if table_VD.grad is not None:
                        self._step_rows(table_VD, table_VD.grad.coalesce(), group)

    def _step_rows(self, table_VD: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[table_VD]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table_VD), torch.zeros_like(table_VD)
        state["step"] += 1
        (beta1, beta2), step = group["betas"], state["step"].item()
        rows_R, gradient_RD = gradient.indices()[0], gradient.values()
        mean_RD = state["exp_avg"][rows_R].lerp_(gradient_RD, 1 - beta1)
        square_RD = state["exp_avg_sq"][rows_R].mul_(beta2).addcmul_(gradient_RD, gradient_RD, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows_R, mean_RD)
        state["exp_avg_sq"].index_copy_(0, rows_R, square_RD)
        root_RD = square_RD.div_(1 - beta2**step).sqrt_().add_(group["eps"])
        table_VD.index_add_(0, rows_R, mean_RD.div_(root_RD), alpha=-group["lr"] / (1 - beta1**step))


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
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    *,
    lr: float,
    clip_norm: float | None,
    shards: Mapping[int, RowShard] = NO_SHARDS,
) -> None:
    """Unscale, clip, step, in that order. With fp16 a step whose gradients overflowed is left out. `shards`: of which
    parameters, by their `id`, other processes have other rows."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    if clip_norm is not None:
        scaler.unscale_(optimizer)
        clip([p for group in optimizer.param_groups for p in group["params"]], clip_norm, shards)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)


def clip(parameters: list[nn.Parameter], clip_norm: float, shards: Mapping[int, RowShard] = NO_SHARDS) -> None:
    """Scale all gradients by min(1, clip_norm / their norm). Of a row-sparse gradient the rows it holds count, of a
    sharded table those of all processes."""
    alike: list[Tensor] = []
    own: list[Tensor] = []
    for p in parameters:
        if p.grad is None:
            continue
        if p.grad.is_sparse:
            p.grad = p.grad.coalesce()  # no work where a table's hook has done it
        (own if id(p) in shards else alike).append(p.grad.values() if p.grad.is_sparse else p.grad)
    norm = nn.utils.get_total_norm(alike, foreach=True)
    if shards:
        processes = next(iter(shards.values())).processes
        squares = processes.sum(torch.stack([norm.new_zeros(()), *(gradient.square().sum() for gradient in own)]).sum())
        norm = (norm.square() + squares).sqrt()
    torch._foreach_mul_([*alike, *own], (clip_norm / (norm + 1e-6)).clamp(max=1.0))
