"""AdamW whose embedding tables are updated by the row: a step costs what it touched, whatever the catalogue's size.

Legend: V rows of a table, R rows a step used, D width.
"""

from typing import Any

import torch
from torch import Tensor, nn


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

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], fused: bool) -> None:
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
