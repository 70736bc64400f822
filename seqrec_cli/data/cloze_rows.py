"""Cloze training: windows with some events hidden, whose items are the targets (BERT4Rec, arXiv 1904.06690, 3.6).

Which events are hidden is drawn here from seed, epoch and step: others in every epoch, the same ones after a resume.
They are drawn on the host, so the number of targets is known without waiting for a GPU.

Legend: R rows, B rows of one batch, L events, N targets, M the most targets of a row.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from seqrec_cli.config.objective import Window
from seqrec_cli.data.batch import MASKED, Batch, to_device
from seqrec_cli.data.batching import BatchedRows, Batching, RowSizes
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import LogTensors, padded_weights, windows
from seqrec_cli.data.splits import train_ends
from seqrec_cli.data.weights import event_weights

KEPT = 0  # written over a chosen event: nothing


@dataclass(frozen=True)
class Masking:
    """How events are chosen, and what is written over them."""

    share: float  # of a row's events; at least one
    random: float  # of the chosen: overwritten by a random item
    keep: float  # of the chosen: left as they are; the others are masked
    last: float  # of the rows: the final event alone is chosen and masked, as at prediction time

    def counts(self, lengths_B: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """How many events each row gives, [B], the share rounded up or down at random; and which rows give the last."""
        counts_B = np.maximum(np.floor(self.share * lengths_B + rng.random(len(lengths_B))), 1).astype(np.int64)
        final_B = rng.random(len(lengths_B)) < self.last
        return np.where(final_B, 1, counts_B), final_B

    def draw(self, lengths_B: np.ndarray, num_items: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Columns [B, M] of the chosen events, ascending, L where a row has fewer; what to write over each, [B, M]."""
        counts_B, final_B = self.counts(lengths_B, rng)
        L, M = int(lengths_B.max()), int(counts_B.max())
        keys_BL = rng.random((len(lengths_B), L), dtype=np.float32)
        keys_BL[np.arange(L) >= lengths_B[:, None]] = 2  # padding comes last
        columns_BM = np.argsort(keys_BL, axis=1)[:, :M]
        columns_BM[final_B, 0] = lengths_B[final_B] - 1
        columns_BM[np.arange(M) >= counts_B[:, None]] = L
        columns_BM.sort(axis=1)
        chance_BM = rng.random(columns_BM.shape)
        chance_BM[final_B] = 1
        written_BM = rng.integers(1, num_items + 1, columns_BM.shape)
        written_BM[chance_BM >= self.random] = KEPT
        written_BM[chance_BM >= self.random + self.keep] = MASKED
        return columns_BM, written_BM


class ClozeRows(BatchedRows):
    """One row a window of at most max_length training events, two at least.

    `last` takes each user's latest ones; `sliding` the whole history from its end on, neighbours sharing one event.
    """

    def __init__(
        self,
        log: PackedLog,
        max_length: int,
        batching: Batching,
        *,
        window: Window,
        stride: int | None,
        masking: Masking,
        device: torch.device,
        log_on: torch.device | None = None,
    ) -> None:
        """Batches are on `device`, cut from the log on `log_on` (None: there too)."""
        log_on = log_on or device
        self._masking, self._device, self._num_items = masking, device, log.num_items
        self._events = LogTensors.of(log, log_on)
        weights_N = event_weights(log)
        self._weights_N = None if weights_N is None else torch.from_numpy(weights_N).to(log_on)
        # A next-item window is its inputs and one event more, the last target: here that one is an input too, and
        # windows share at least one event, or a first window of one event could be left.
        stride = None if stride is None else min(stride, max_length - 1)
        self._rows_R, self._starts_R, lengths_R = windows(
            np.asarray(log.offsets_U1), train_ends(log), max_length - 1, kind=window, stride=stride
        )
        super().__init__(lengths_R, batching)

    def sizes(self, epoch: int) -> list[RowSizes]:
        found = []
        for step, picked_B in enumerate(self._order(epoch)):
            lengths_B = self._lengths_R[picked_B]
            counts_B, _ = self._masking.counts(lengths_B, self._rng(epoch, step))
            found.append((lengths_B, counts_B))
        return found

    def _batch(self, picked_B: np.ndarray, rng: np.random.Generator) -> Batch:
        rows_B, starts_B, lengths_B = self._rows_R[picked_B], self._starts_R[picked_B], self._lengths_R[picked_B]
        columns_BM, written_BM = self._masking.draw(lengths_B, self._num_items, rng)
        L, real_BM = int(lengths_B.max()), columns_BM < lengths_B[:, None]
        positions_BM = np.arange(len(rows_B))[:, None] * L + columns_BM
        positions_N = to_device(torch.from_numpy(positions_BM[real_BM]), self._events.items_N.device)
        written_N = to_device(torch.from_numpy(written_BM[real_BM]), self._events.items_N.device)
        batch = self._events.histories(rows_B, starts_B, lengths_B)
        items_BL = batch.items_BL
        targets_BL = torch.zeros_like(items_BL)
        targets_N = items_BL.view(-1)[positions_N]
        targets_BL.view(-1)[positions_N] = targets_N
        items_BL.view(-1)[positions_N] = torch.where(written_N == KEPT, targets_N, written_N)
        return replace(
            batch,
            targets_BL=targets_BL,
            weights_BL=padded_weights(self._weights_N, starts_B, lengths_B),
            positions_N=positions_N,
            masked_BM=torch.from_numpy(columns_BM),
            host_lengths_B=batch.lengths_B,
            host_taught_B=torch.from_numpy(real_BM.sum(1)),
        ).to(self._device)
