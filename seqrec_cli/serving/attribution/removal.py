"""A history without some of its events, and what a score changes by when one is left out.

Removed are events of the row that the model read: the others move together, and no older event takes their place.

Legend: R rows made of one, L events of the row, C items.
"""

from dataclasses import replace

import torch
from torch import Tensor

from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender, full_precision

OF_EVENTS = ("items_BL", "times_BL", "presence_BL", "context_BLF")


def repeated(batch: Batch, rows: int) -> Batch:
    """A batch of one row as one of so many equal rows."""
    every = {name: tensor.expand(rows, *tensor.shape[1:]) for name, tensor in vars(batch).items() if tensor is not None}
    return replace(batch, **every)


def without(batch: Batch, kept_RL: Tensor) -> Batch:
    """A batch of one row as one of R rows, each with the events of which `kept_RL` [R, L] (bool) is true, in order."""
    rows = repeated(batch, len(kept_RL))
    lengths_R = kept_RL.sum(1)
    width = max(int(lengths_R.max()), 1)
    order_RL = torch.argsort(~kept_RL, dim=1, stable=True)[:, :width]
    real_RL = torch.arange(width, device=kept_RL.device) < lengths_R[:, None]
    picked = {"lengths_B": lengths_R}
    for name in OF_EVENTS:
        values = getattr(rows, name)
        if values is not None:
            order = order_RL if values.dim() == 2 else order_RL[..., None].expand(-1, -1, values.shape[-1])
            real = real_RL if values.dim() == 2 else real_RL[..., None]
            picked[name] = values.gather(1, order) * real
    return replace(rows, **picked)


@torch.inference_mode()
def scores_without(model: Recommender, batch: Batch, items_C: Tensor, *, kept_RL: Tensor, rows_at_once: int) -> Tensor:
    """Scores [R, C] of the items after each row of `without`, in fp32."""
    with full_precision(kept_RL.device):
        parts = [
            model.score(without(batch, kept), items_C.expand(len(kept), -1)).float()
            for kept in kept_RL.split(rows_at_once)
        ]
    return torch.cat(parts)


def leave_one_out(model: Recommender, batch: Batch, items_C: Tensor, *, rows_at_once: int) -> tuple[Tensor, Tensor]:
    """(weights [L, C], scores [C]): a score minus the score without the event; above 0 where the event raised it."""
    length = batch.items_BL.shape[1]
    every = torch.ones(length + 1, length, dtype=torch.bool, device=batch.items_BL.device)
    every[1:].fill_diagonal_(False)
    scores_RC = scores_without(model, batch, items_C, kept_RL=every, rows_at_once=rows_at_once)
    return scores_RC[:1] - scores_RC[1:], scores_RC[0]
