"""The held-out validation targets as an objective of windows would see them: a history, and what followed it.

One row a target: the latest events before it, and a loss at the last position alone. The same rows, hidden events and
unseen items at every validation, whatever the run's seed, so that two losses differ by the weights alone.

Legend: R rows, T held-out targets, B rows of one batch, L history events, K negatives.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from seqrec_cli.data.batch import MASKED, Batch, to_device
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import LogTensors, unseen_at_events
from seqrec_cli.data.negatives import SeenItems
from seqrec_cli.data.splits import held_out

SEED = 0  # of the rows that are picked and of their negatives


@dataclass(frozen=True)
class ValidationRows:
    """`rows_R` user rows, `ends_R` absolute log positions that the histories end before, `items_R` the targets."""

    log: PackedLog
    rows_R: np.ndarray
    ends_R: np.ndarray
    items_R: np.ndarray

    @classmethod
    def of(cls, log: PackedLog, most: int | None) -> "ValidationRows":
        """Every validation target that has a history, or `most` of them, drawn once and for all; of several targets of
        a request each has a row of its own."""
        targets = held_out(log, "val")
        requests_T = targets.requests_T
        rows_T, ends_T = np.asarray(targets.rows_R)[requests_T], np.asarray(targets.ends_R)[requests_T]
        picked_R = np.flatnonzero(ends_T > np.asarray(log.offsets_U1)[rows_T])
        if most is not None and most < len(picked_R):
            picked_R = np.sort(np.random.default_rng(SEED).permutation(picked_R)[:most])
        items_R = np.asarray(log.items_N[targets.positions_T[picked_R]], np.int64)
        return cls(log, rows_T[picked_R], ends_T[picked_R], items_R)

    def __len__(self) -> int:
        return len(self.rows_R)

    def batches(
        self,
        max_length: int,
        batch_size: int,
        *,
        masked: bool,
        negatives: int,
        draws_by_row: bool,
        seen: SeenItems | None,
        device: torch.device,
        log_on: torch.device | None = None,
    ) -> Iterator[Batch]:
        """Batches of like length, the longest first, on `device`, cut from the log on `log_on` (None: there too).

        With `masked` the target's own event is there, hidden (cloze), and the history has one event less. `negatives`
        that the user has not seen stand beside each target, as `WindowRows` has them.
        """
        log_on = log_on or device
        events, rng = LogTensors.of(self.log, log_on), np.random.default_rng(SEED)
        most = max_length - 1 if masked else max_length
        lengths_R = np.minimum(self.ends_R - np.asarray(self.log.offsets_U1)[self.rows_R], most)
        order_R = np.argsort(-lengths_R, kind="stable")
        for first in range(0, len(order_R), batch_size):
            picked_B = order_R[first : first + batch_size]
            rows_B, ends_B, history_B = self.rows_R[picked_B], self.ends_R[picked_B], lengths_R[picked_B]
            lengths_B = history_B + 1 if masked else history_B
            batch, last_B = events.histories(rows_B, ends_B - history_B, lengths_B), lengths_B - 1
            at = (torch.arange(len(picked_B), device=log_on), to_device(torch.from_numpy(last_B), log_on))
            items_BL = batch.items_BL
            if masked:
                targets_BL = torch.zeros_like(items_BL)
                items_BL[at] = MASKED
            else:  # earlier positions have their targets too: an objective may look at what follows a position
                targets_BL = torch.nn.functional.pad(items_BL[:, 1:], (0, 1))
            targets_BL[at] = to_device(torch.from_numpy(self.items_R[picked_B]), log_on)
            negatives_BLK = None
            if negatives:
                assert seen is not None
                negatives_BLK = unseen_at_events(rows_B, np.ones_like(lengths_B), negatives, seen=seen, rng=rng)
                assert negatives_BLK is not None
                if not draws_by_row:
                    negatives_BLK = negatives_BLK.expand(-1, items_BL.shape[1], -1)
            yield replace(
                batch,
                items_BL=items_BL,
                targets_BL=targets_BL,
                positions_N=torch.from_numpy(np.arange(len(picked_B)) * items_BL.shape[1] + last_B),
                masked_BM=torch.from_numpy(last_B)[:, None] if masked else None,
                negatives_BLK=negatives_BLK,
                request_times_B=None if masked else events.times_at(ends_B),
                context_BF=None if masked else events.contexts_at(ends_B),
                host_lengths_B=batch.lengths_B,
                host_taught_B=torch.ones(len(picked_B), dtype=torch.int64),
            ).to(device)
