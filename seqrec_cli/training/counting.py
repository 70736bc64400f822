"""Fitting a model that counts: one pass over the training histories."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import train_ends
from seqrec_cli.models.contract import CountingModel


def training_histories(log: PackedLog) -> Iterator[Tensor]:
    """Each user's training events in order, int64 [n]; users without any are left out."""
    for start, end in zip(log.offsets_U1[:-1].tolist(), train_ends(log).tolist(), strict=True):
        if end > start:
            yield torch.from_numpy(log.items_N[start:end].astype(np.int64))


def fit_by_counting(model: CountingModel, log: PackedLog) -> None:
    """Fit `model` on the training events alone: held-out events are never counted."""
    model.count(training_histories(log))
