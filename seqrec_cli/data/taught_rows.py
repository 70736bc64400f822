"""Training windows with what a teacher says of every target.

Legend: B rows of one batch, L history events, K items of the teacher.
"""

from dataclasses import replace

import numpy as np
import torch

from seqrec_cli.config.objective import Window
from seqrec_cli.data.batch import Batch, to_device
from seqrec_cli.data.batching import Batching
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import WindowRows
from seqrec_cli.data.soft_targets import SoftTargets


class TaughtRows(WindowRows):
    """`WindowRows`, whose targets are looked up in the teacher's answers by their places in the log."""

    def __init__(
        self,
        log: PackedLog,
        max_length: int,
        batching: Batching,
        *,
        soft: SoftTargets,
        window: Window,
        stride: int | None,
        device: torch.device,
        log_on: torch.device | None = None,
    ) -> None:
        """Batches are on `device`, cut from the log on `log_on` (None: there too)."""
        self._soft = soft
        super().__init__(
            log,
            max_length,
            batching,
            window=window,
            stride=stride,
            negatives=0,
            draws_by_row=False,
            device=device,
            log_on=log_on,
        )

    def _batch(self, picked_B: np.ndarray, rng: np.random.Generator) -> Batch:
        batch = super()._batch(picked_B, rng)
        targets_B = self._starts_R[picked_B] + 1  # where each row's targets begin
        items_BLK, shares_BLK = self._soft.of_rows(targets_B, self._lengths_R[picked_B], last=self._one_a_row)
        return replace(
            batch,
            soft_items_BLK=to_device(items_BLK, self._device),
            soft_shares_BLK=to_device(shares_BLK, self._device),
        )
