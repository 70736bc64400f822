"""Rows of scores of the corpus: what is hidden in them, and when they are none.

Legend: B rows, M hidden scores, V items.
"""

import torch

from seqrec_cli.config.errors import SeqrecError


def hide(scores_BV: torch.Tensor, hidden_M: torch.Tensor) -> None:
    """Padding, and the items at these positions of the flattened scores, get the lowest score there is, in place."""
    columns = scores_BV.shape[1]
    scores_BV[:, 0] = -torch.inf
    scores_BV[hidden_M.div(columns, rounding_mode="floor"), hidden_M % columns] = -torch.inf


def refuse_no_numbers(scores_BV: torch.Tensor, first: int = 1) -> None:
    if not scores_BV[:, first:].isfinite().all():
        raise SeqrecError("the model's scores are not numbers; its training has diverged")
