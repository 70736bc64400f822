"""Counting sees training events, in order, and nothing that is held out."""

import warnings
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.models.contract import ClosedFormModel
from seqrec_cli.saying import silent
from seqrec_cli.training.closed_form import closed_form_seconds, fit_closed_form


class Collector(ClosedFormModel):
    def fit_closed_form(self, histories: Iterable[Tensor], tell: Callable[[str], None] = silent) -> None:
        self.seen = list(histories)


def test_only_training_events_are_counted() -> None:
    items_N = np.array([3, 1, 2, 4, 5, 1, 2, 6], np.int32)
    offsets_U1 = np.array([0, 5, 5, 7, 8])  # five events (two held out), none, two (all train), one
    catalog = Catalog(num_users=4, num_items=6)
    model = Collector(catalog)
    fit_closed_form(model, PackedLog(offsets_U1, items_N, None, None, catalog))
    assert [h.tolist() for h in model.seen] == [[3, 1, 2], [1, 2], [6]]
    assert all(h.dtype == torch.int64 for h in model.seen)


class Pairs(Collector):
    def closed_form_bytes(self, events: int) -> int:
        return 2**33


def test_what_memory_cannot_hold_is_refused_before_it_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    log = PackedLog(np.array([0, 3]), np.array([1, 2, 1], np.int32), None, None, Catalog(num_users=1, num_items=2))
    monkeypatch.setattr("seqrec_cli.training.closed_form.available_memory", lambda device: 2**32)
    model = Pairs(log.catalog)
    with pytest.raises(SeqrecError, match=r"needs 8\.0 GiB for the pairs of 2 items, 4\.0 GiB are free"):
        fit_closed_form(model, log)
    assert not hasattr(model, "seen")
    monkeypatch.setattr("seqrec_cli.training.closed_form.available_memory", lambda device: 2**34)
    fit_closed_form(model, log)
    assert len(model.seen) == 1


def test_a_sparse_matrix_of_torch_is_not_warned_of() -> None:
    """As a first run would be, in the middle of its lines."""

    class Warned(Collector):
        def fit_closed_form(self, histories: Iterable[Tensor], tell: Callable[[str], None] = silent) -> None:
            warnings.warn("Sparse CSR tensor support is in beta state", UserWarning, stacklevel=1)
            super().fit_closed_form(histories, tell)

    catalog = Catalog(num_users=1, num_items=6)
    log = PackedLog(np.array([0, 4]), np.array([3, 1, 2, 4], np.int32), None, None, catalog)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_closed_form(Warned(catalog), log)
        assert closed_form_seconds(Warned(catalog), log) >= 0
