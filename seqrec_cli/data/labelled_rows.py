"""Training rows whose labelled candidates the dataset has fixed, by its protocol.

Legend: R labelled rows, B rows of one batch, C candidates.
"""

from dataclasses import replace

import numpy as np

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.batching import BatchedRows, Batching
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import _request, draw_beside
from seqrec_cli.data.negatives import SeenItems
from seqrec_cli.data.splits import train_ends


class LabelledTraining(BatchedRows):
    """One row a labelled row of the dataset's training split: its protocol's own candidates, the same every epoch."""

    def __init__(self, log: PackedLog, max_length: int, batching: Batching, history_negatives: int = 0) -> None:
        self._log, self._rows, self._history_negatives = log, log.clicks["train"], history_negatives
        self._seen = SeenItems.of(log.offsets_U1, log.items_N, log.num_items, train_ends(log))
        lengths_R = np.asarray(self._rows.ends_R) - log.offsets_U1[self._rows.rows_R]
        super().__init__(np.minimum(lengths_R, max_length), batching)

    def _batch(self, picked_B: np.ndarray, rng: np.random.Generator) -> Batch:
        rows, lengths_B = self._rows.at(picked_B), self._lengths_R[picked_B]
        widest = max(1, int((rows.items_RC > 0).sum(axis=1).max(initial=1)))  # of this batch; candidates stand left
        items_BC, labels_BC = rows.items_RC[:, :widest], rows.labels_RC[:, :widest]
        batch = _request(self._log, rows.rows_R, rows.ends_R, lengths_B, items_BC, labels_BC)
        beside = draw_beside(rows.rows_R, lengths_B, self._history_negatives, self._seen, rng)
        return replace(batch, negatives_BLK=beside)
