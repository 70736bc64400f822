"""How much each training target counts (`dataset.weight_column`): weights of mean 1 over what trains.

A batch's loss is the mean of weight x loss, so a target of weight 2 pulls as two of weight 1 do, whatever else is in
its batch. Weights that are all equal are none.

Legend: N events, R labelled rows.
"""

import numpy as np
import torch

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import train_ends, training_targets
from seqrec_cli.data.view import LabelledRows


def event_weights(log: PackedLog) -> np.ndarray | None:
    """Of every event as a target, float32 [N]; None where all training targets count alike."""
    if log.weights_N is None:
        return None
    _, targets = training_targets(log.offsets_U1, train_ends(log))
    return _of_mean_one(np.asarray(log.weights_N), np.asarray(log.weights_N)[targets])


def row_weights(log: PackedLog, rows: LabelledRows) -> np.ndarray | None:
    """Of every labelled training row, float32 [R]: its own, or its event's; None where all count alike."""
    if rows.weights_R is not None:
        weights_R = np.asarray(rows.weights_R)
    elif log.weights_N is not None:
        weights_R = np.asarray(log.weights_N)[rows.ends_R]
    else:
        return None
    return _of_mean_one(weights_R, weights_R)


def of_candidates(weights: np.ndarray | None, candidates: np.ndarray) -> torch.Tensor | None:
    """Each request's weight for all its candidates."""
    if weights is None:
        return None
    return torch.from_numpy(np.broadcast_to(weights[..., None], candidates.shape).astype(np.float32))


def _of_mean_one(weights: np.ndarray, trained: np.ndarray) -> np.ndarray | None:
    if not len(trained) or trained.min() == trained.max():
        return None
    found: np.ndarray = (weights / trained.mean(dtype=np.float64)).astype(np.float32)
    return found
