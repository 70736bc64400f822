"""Counting sees training events, in order, and nothing that is held out."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.models.contract import CountingModel
from seqrec_cli.training.counting import fit_by_counting


class Collector(CountingModel):
    def count(self, histories: Iterable[Tensor]) -> None:
        self.seen = list(histories)


def test_only_training_events_are_counted() -> None:
    items_N = np.array([3, 1, 2, 4, 5, 1, 2, 6], np.int32)
    offsets_U1 = np.array([0, 5, 5, 7, 8])  # five events (two held out), none, two (all train), one
    catalog = Catalog(num_users=4, num_items=6)
    model = Collector(catalog)
    fit_by_counting(model, PackedLog(offsets_U1, items_N, None, None, catalog))
    assert [h.tolist() for h in model.seen] == [[3, 1, 2], [1, 2], [6]]
    assert all(h.dtype == torch.int64 for h in model.seen)
