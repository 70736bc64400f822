"""Why an item is in a list: the event of the history that weighed most in its score, by the model's attention.

It is the weight that `seqrec explain` shows (of DIN, DIEN, DSIN, BST), the largest in size.

Legend: R histories, B histories of a batch, L history events, K items of a list.
"""

import numpy as np
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.histories import Histories, logged_histories
from seqrec_cli.models.contract import full_precision
from seqrec_cli.serving.recommending import FIRST, Recommending


def refuse_without_attention(recommending: Recommending) -> None:
    """Raises SeqrecError for a model that has no attention over a history's events."""
    log = recommending.log
    anybody = logged_histories(log, np.array([np.diff(log.offsets_U1).argmax()]))
    if _weights(recommending, anybody, FIRST, items_BK=np.ones((1, 1), np.int64)) is None:
        raise SeqrecError(
            f"explain: model={recommending.name} has no attention over a history's events to explain an item by; "
            "leave explain=true out, or train din, dien, dsin or bst"
        )


def strongest_events(
    recommending: Recommending, asked: Histories, items_RK: np.ndarray, *, rows_at_once: int
) -> np.ndarray:
    """Of each listed item (0: none) the event's item, int64 [R, K]; of equal weights the earliest."""
    events_RK = np.zeros_like(items_RK)
    for rows_B in asked.by_length(recommending.max_length, rows_at_once):
        weights_BLK = _weights(recommending, asked, rows_B, items_BK=items_RK[rows_B])
        assert weights_BLK is not None
        batch = asked.batch(rows_B, recommending.max_length)
        real_BL = batch.mask_BL.numpy()[..., None]
        places_BK = np.where(real_BL, np.abs(weights_BLK), -1.0).argmax(1)
        events_RK[rows_B] = np.take_along_axis(batch.items_BL.numpy(), places_BK, axis=1)
    return np.where(items_RK > 0, events_RK, 0)


@torch.inference_mode()
def _weights(
    recommending: Recommending, asked: Histories, rows_B: np.ndarray, *, items_BK: np.ndarray
) -> np.ndarray | None:
    device = recommending.precision.device
    batch = asked.batch(rows_B, recommending.max_length).to(device)
    with full_precision(device):
        weights_BLK = recommending.model.attention(batch, torch.from_numpy(items_BK).to(device))
    return None if weights_BLK is None else weights_BLK.float().cpu().numpy()
