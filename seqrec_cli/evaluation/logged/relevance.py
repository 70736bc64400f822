"""What a trained model says of shown items: the chance that each is clicked.

Legend: R requests, C places.
"""

from typing import Literal

import numpy as np
import torch

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import labelled_batches
from seqrec_cli.models.contract import Recommender


def probabilities(
    model: Recommender,
    log: PackedLog,
    split: Literal["train", "val", "test"],
    *,
    max_length: int,
    batch_size: int,
    device: torch.device,
) -> np.ndarray:
    """The sigmoid of each logged candidate's logit, float64 [R, C]; of padding any number from 0 to 1. Under
    `measuring`."""
    found_RC = np.zeros(log.clicks[split].items_RC.shape)
    for picked_B, batch in labelled_batches(log, split, max_length=max_length, batch_size=batch_size):
        moved = batch.to(device)
        assert moved.candidates_BC is not None
        found_RC[picked_B] = model.score(moved, moved.candidates_BC).float().sigmoid().cpu().double().numpy()
    return found_RC
