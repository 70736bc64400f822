"""The objective's own loss on the held-out validation targets, computed at every validation.

Training losses fall for as long as a model memorises; this one tells when it stops to learn what holds for others. Its
masks and negatives are the same ones every time, dropout is off, and nothing is learned from it.

- Objectives of windows (next item, sampled ones): the loss at the validation target, given its history. Cloze: the
  target's event alone is hidden. All-action objectives: the future is the target alone.
- Click: the labelled validation candidates, whose logits a validation has anyway. Where training draws K negatives a
  positive, the mean losses of positives and of negatives weigh 1 : K, as they do in training.
- A model's own terms (an auxiliary loss, L2) belong to training alone and are no part of it. A model in closed form has
  no loss.

Legend: B rows, L history events, N labelled candidates.
"""

import math

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.devices import forked_random, widest_float
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.negatives import SeenItems
from seqrec_cli.data.validation_rows import SEED, ValidationRows
from seqrec_cli.metrics.table import LOSS
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import Objective
from seqrec_cli.processes import current
from seqrec_cli.training.log_place import log_device

# A second pass over all rows would double a validation: one row in 15, but so many at least, takes 10 to 20 % of it.
SHARE, LEAST = 15, 256
ROWS_AT_ONCE = 64  # few, so that a sample's rows are near in length to those they share a batch with
BYTES_A_SCORE = 4  # float32


class ValidationLoss:
    """Built once a run. A run that is chosen by its loss measures every row, any other a fixed sample of them."""

    def __init__(self, cfg: TrainConfig, objective: Objective, log: PackedLog, *, device: torch.device) -> None:
        objective = objective.measured()
        self._cfg, self._objective, self._device = cfg, objective, device
        self._of_rows = cfg.objective.capabilities.rows == "windows"
        self._fixed = "train" in log.clicks and not objective.redraw
        self._seen = SeenItems.in_training(log) if self._of_rows and objective.negatives_per_position else None
        if self._of_rows:
            self._rows = ValidationRows.of(log, None)
            if cfg.trainer.monitor != LOSS:
                self._rows = ValidationRows.of(log, max(LEAST, len(self._rows) // SHARE))

    def __call__(self, model: Recommender, labels_N: np.ndarray, logits_N: np.ndarray) -> float | None:
        """The loss, in the caller's number format and without gradients; labels and logits are of the click candidates.

        None where there is nothing to compute it from, or it is not finite.
        """
        loss = self._over_rows(model) if self._of_rows else self._over_candidates(labels_N, logits_N)
        return loss if loss is not None and math.isfinite(loss) else None

    def _over_rows(self, model: Recommender) -> float | None:
        """The mean over rows; of an ensemble, the mean of its members' losses. Of several processes each computes some
        batches, and all draw for all."""
        cfg, objective, trainables = self._cfg, self._objective, model.trainable_models()
        fitting = cfg.evaluation.memory_mb * 2**20 // (BYTES_A_SCORE * (model.num_items + 1))
        batches = self._rows.batches(
            cfg.model.max_length,
            max(1, min(cfg.evaluation.batch_size, ROWS_AT_ONCE, fitting)),
            masked=objective.masking is not None,
            negatives=objective.negatives_per_position,
            draws_by_row=objective.draws_by_row,
            seen=self._seen,
            device=self._device,
            log_on=log_device(cfg.hardware.log, self._rows.log, self._device),
        )
        wide = widest_float(self._device)
        processes, of_batches, nothing = current(), [], torch.zeros((), dtype=wide, device=self._device)
        with forked_random(self._device):
            torch.manual_seed(SEED)  # of negatives that the objective draws
            for nth, batch in enumerate(batches):
                for trainable in trainables:
                    drawn, own = objective.drawn(batch), nth % processes.count == processes.rank
                    loss = objective.target_loss(trainable, drawn).to(wide) * len(batch) if own else nothing
                    of_batches.append(loss)
        if not len(self._rows) or not trainables:
            return None
        total = sum(processes.sum(torch.stack(of_batches)).unbind(), nothing)  # in the order of one process
        return total.item() / (len(self._rows) * len(trainables))

    def _over_candidates(self, labels_N: np.ndarray, logits_N: np.ndarray) -> float | None:
        if not len(labels_N):
            return None
        labels_1N = torch.from_numpy(labels_N.astype(np.float32))[None]
        losses_1N = self._objective.losses_of_candidates(torch.from_numpy(logits_N).float()[None], labels_1N).double()
        if self._fixed:
            return losses_1N.mean().item()
        return _weighed(losses_1N[0], labels_1N[0] > 0, self._objective.negatives_per_row)


def _weighed(losses_N: Tensor, positive_N: Tensor, negatives: int) -> float:
    """The mean over one positive and so many negatives, each from the mean of its kind."""
    of_each = losses_N[positive_N].mean() + negatives * losses_N[~positive_N].mean()
    return of_each.item() / (1 + negatives)
