"""Click training at all positions: rows that carry several targets, so that the events they share are read once.

The examples are those of `PrefixRows`, each target once with the latest max_length events before it; a row holds a run
of them and the events that any of them needs. A model whose states depend on where a row begins gets rows of at most
max_length events: the earlier targets of a run then have up to TARGETS - 1 events fewer behind them.

Legend: R rows, B rows of one batch, T targets of a row, C = T x (1 + K) candidates, K negatives of a target.
"""

from dataclasses import replace

import numpy as np
import torch

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.batching import BatchedRows, Batching, noisily_sorted
from seqrec_cli.data.context import contexts
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.loader import LogTensors, unseen_at_events
from seqrec_cli.data.negatives import SeenItems, draw_unseen
from seqrec_cli.data.splits import train_ends
from seqrec_cli.data.view import LabelledRows
from seqrec_cli.data.weights import event_weights, of_candidates

# Targets a row. More share more events, but look at more pairs of event and candidate that are then masked (max_length
# 50: 57 events for 50 that count, 81 with 32 targets), and fill a batch from fewer users. DIN trains as fast with 4, 8
# and 16, and a quarter slower with 32.
TARGETS = 8


def target_runs(
    offsets_U1: np.ndarray, ends_U: np.ndarray, max_length: int, *, targets: int, whole: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Runs of at most `targets` next events as (user rows, starts, lengths, numbers of targets), cut from each end.

    A run's events lie at start to start + length - 1, the last of its targets at start + length. The first target's
    whole history is there, up to max_length events; without `whole` the last one's, and rows stay within max_length.
    """
    starts_U = offsets_U1[:-1]
    targets_U = np.maximum(ends_U - starts_U - 1, 0)
    runs_U = -(-targets_U // targets)
    rows_R = np.repeat(np.arange(len(ends_U)), runs_U)
    lasts_R = ends_U[rows_R] - 1 - ragged_ranges(0, runs_U) * targets
    counts_R = np.minimum(lasts_R - starts_U[rows_R], targets)
    first_R = np.maximum(lasts_R - (counts_R - 1 if whole else 0) - max_length, starts_U[rows_R])
    return rows_R, first_R, lasts_R - first_R, counts_R


class PositionRows(BatchedRows):
    """One row a run of targets; each target's candidates are its event and items unseen in training.

    With `fixed_negatives`, which are the dataset's labelled training rows, a target's negatives are those of its row.

    Batches are on `device`, cut from the log on `log_on` (None: there too).
    A batch holds `batching.size` targets, give or take a row, so an epoch has the steps it has with one row a prefix.
    """

    def __init__(
        self,
        log: PackedLog,
        max_length: int,
        batching: Batching,
        *,
        negatives: int,
        device: torch.device,
        whole: bool = True,
        history_negatives: int = 0,
        history_pool_N: np.ndarray | None = None,
        fixed_negatives: LabelledRows | None = None,
        log_on: torch.device | None = None,
    ) -> None:
        self._log, self._negatives, self._device = log, negatives, device
        self._history_negatives, self._fixed_negatives = history_negatives, fixed_negatives
        self._history_pool_N = history_pool_N
        self._events = LogTensors.of(log, log_on or device)
        self._rows_R, self._starts_R, lengths_R, self._counts_R = target_runs(
            np.asarray(log.offsets_U1), train_ends(log), max_length, targets=min(TARGETS, batching.size), whole=whole
        )
        self._weights_N = event_weights(log)
        self._seen = SeenItems.in_training(log)
        self._seen.refuse_all_seen(log.num_users)
        super().__init__(lengths_R, batching)

    def _order(self, epoch: int) -> list[np.ndarray]:
        rng = self._rng(epoch)
        like = self._batching.bucket_by_length
        batches = self._by_targets(
            noisily_sorted(self._lengths_R, rng) if like else rng.permutation(len(self._lengths_R))
        )
        rng.shuffle(batches)
        return batches

    def _by_targets(self, order_R: np.ndarray) -> list[np.ndarray]:
        """Cut an order of rows wherever their targets fill another batch: ceil(targets / batching.size) batches."""
        if not len(order_R):
            return []
        batch_R = (np.cumsum(self._counts_R[order_R]) - 1) // self._batching.size
        return np.split(order_R, np.flatnonzero(np.diff(batch_R)) + 1)

    def _targets(self, picked_B: np.ndarray) -> np.ndarray:
        return self._counts_R[picked_B]

    def largest(self) -> Batch:
        longest_first = np.argsort(-self._lengths_R, kind="stable")
        return self._batch(self._by_targets(longest_first)[0], self._rng())

    def _batch(self, picked_B: np.ndarray, rng: np.random.Generator) -> Batch:
        rows_B, starts_B = self._rows_R[picked_B], self._starts_R[picked_B]
        lengths_B, counts_B = self._lengths_R[picked_B], self._counts_R[picked_B]
        B, T, K = len(picked_B), int(counts_B.max()), self._negatives
        nth_T = np.arange(T)
        real_BT = nth_T < counts_B[:, None]
        ends_BT = np.where(real_BT, (lengths_B - counts_B + 1)[:, None] + nth_T, 0)
        candidates_BTC = np.empty((B, T, 1 + K), np.int64)
        candidates_BTC[:, :, 0] = self._log.items_N[starts_B[:, None] + ends_BT]
        if self._fixed_negatives is None:
            targets_N1 = candidates_BTC[:, :, 0].reshape(-1, 1)
            drawn_NK = draw_unseen(np.repeat(rows_B, T), K, self._seen, rng=rng, avoid_RM=targets_N1)
            candidates_BTC[:, :, 1:] = drawn_NK.reshape(B, T, K)
        else:  # its rows are the training events in the order of the log
            fixed = self._fixed_negatives
            rows_BT = np.searchsorted(fixed.ends_R, starts_B[:, None] + ends_BT)
            candidates_BTC[:, :, 1:] = fixed.items_RC[np.minimum(rows_BT, len(fixed.ends_R) - 1), 1:]
        candidates_BTC[~real_BT] = 0
        labels_BTC = np.zeros((B, T, 1 + K), np.float32)
        labels_BTC[:, :, 0] = real_BT
        weights_BT = None if self._weights_N is None else self._weights_N[starts_B[:, None] + ends_BT]
        weights_BTC = of_candidates(weights_BT, candidates_BTC)
        context_BTF = contexts(self._log, starts_B[:, None] + ends_BT)
        batch = self._events.histories(rows_B, starts_B, lengths_B)
        return replace(
            batch,
            candidates_BC=torch.from_numpy(candidates_BTC).view(B, -1),
            labels_BC=torch.from_numpy(labels_BTC).view(B, -1),
            weights_BC=None if weights_BTC is None else weights_BTC.view(B, -1),
            ends_BC=torch.from_numpy(np.repeat(ends_BT, 1 + K, axis=1)),
            context_BCF=None if context_BTF is None else torch.from_numpy(np.repeat(context_BTF, 1 + K, axis=1)),
            negatives_BLK=unseen_at_events(
                rows_B, lengths_B, self._history_negatives, seen=self._seen, rng=rng, pool_N=self._history_pool_N
            ),
            host_lengths_B=batch.lengths_B,
            host_taught_B=torch.from_numpy(counts_B * (1 + K)),
        ).to(self._device)
