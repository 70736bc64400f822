"""`hardware.log`: where batches are cut from, on a device that stands in for a GPU; the batches are the same ones."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from toylog import packed

from seqrec_cli.commands.training_setup import objective_for, training_rows
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.context import with_time_context
from seqrec_cli.data.loader import LabelledTraining
from seqrec_cli.data.view import LabelledRows
from seqrec_cli.training import log_place
from seqrec_cli.training.log_place import SHARE, log_bytes, log_device
from tests.rehearsal.parts import CPU, LOG, settings
from tests.rehearsal.standin import DEVICE, POSSIBLE, StandIn, standing_in, watching

needs_it = pytest.mark.skipif(not POSSIBLE, reason="this torch cannot stand in for a device from Python")
KINDS = [("sasrec", "bce"), ("sasrec", "prefixes"), ("bert4rec", "cloze"), ("din", "click"), ("bst", "click")]


@pytest.fixture(autouse=True)
def device_that_stands_in() -> Iterator[None]:
    with standing_in() if POSSIBLE else contextlib.nullcontext():
        yield


def rows_of(model: str, objective: str, device: torch.device, where: Any, log: Any = LOG) -> Any:
    cfg = settings(model, objective)
    cfg = cfg.model_copy(update={"hardware": cfg.hardware.model_copy(update={"log": where})})
    return training_rows(cfg, objective_for(cfg, log, device), log, device=device)


def with_fixed_rows() -> Any:
    """The log with labelled rows that the protocol fixes, as logged requests are."""
    assert LOG.view is not None
    ends_R = np.asarray(LOG.offsets_U1)[:-1] + 2
    items_RC = np.stack([np.asarray(LOG.items_N)[ends_R], np.ones(len(ends_R), np.int32)], axis=1)
    labels_RC = np.tile(np.float32([1, 0]), (len(ends_R), 1))
    fixed = LabelledRows(np.arange(len(ends_R)), ends_R, items_RC, labels_RC)
    return dataclasses.replace(LOG, view=dataclasses.replace(LOG.view, clicks=LOG.view.clicks | {"train": fixed}))


@needs_it
@pytest.mark.parametrize(("model", "objective", "fixed"), [*((*kind, False) for kind in KINDS), ("din", "click", True)])
def test_batches_are_the_same_wherever_the_log_lies(model: str, objective: str, fixed: bool) -> None:
    found, log = [], with_fixed_rows() if fixed else LOG
    for device, where in ((CPU, "auto"), (DEVICE, "device"), (DEVICE, "host")):
        rows = rows_of(model, objective, device, where, log)
        assert isinstance(rows, LabelledTraining) == fixed
        assert rows._events.items_N.device == (CPU if where == "host" else device)
        with watching() as watch:
            batch = next(iter(rows.epoch(0)))
        # The host waits for nothing that the device has still to do.
        assert not [noted for noted in (*watch.waits, *watch.in_other_threads) if "from the host" not in noted]
        assert batch.items_BL.device == device
        assert batch.host_lengths_B is not None
        assert batch.host_taught_B is not None
        assert not isinstance(batch.host_taught_B, StandIn)
        found.append({name: value for name, value in vars(batch).items() if value is not None})
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, tensor in found[0].items():
            assert torch.equal(other[name].cpu(), tensor.cpu()), name


@needs_it
def test_hours_are_read_off_the_host_s_times() -> None:
    log = packed([[1, 2, 3, 4, 5, 6], [3, 4, 5, 6, 7]], 8)
    assert log.times_N is not None
    log = with_time_context(dataclasses.replace(log, times_N=log.times_N * 90), ["hour"])
    batches = [next(iter(rows_of("din", "click", device, "device", log).epoch(0))) for device in (CPU, DEVICE)]
    assert batches[1].context_BLF.device == DEVICE
    assert batches[0].context_BLF.max() > 1
    assert torch.equal(batches[1].context_BLF.cpu(), batches[0].context_BLF)
    with watching() as watch:
        next(iter(rows_of("din", "click", DEVICE, "device", log).epoch(0)))
    assert not any("to the host" in noted for noted in (*watch.waits, *watch.in_other_threads))


def test_auto_keeps_the_log_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, needed = torch.device("cuda"), log_bytes(LOG)
    assert LOG.times_N is not None
    assert needed == LOG.items_N.nbytes + LOG.times_N.nbytes
    assert log_bytes(dataclasses.replace(LOG, weights_N=np.ones(10, np.float32))) == needed + 40
    for free, found in ((SHARE * needed, gpu), (SHARE * needed - 1, CPU), (None, gpu)):
        monkeypatch.setattr(log_place, "available_memory", lambda device, free=free: free)
        assert log_device("auto", LOG, gpu) == found
        assert log_device("host", LOG, gpu) == CPU
    monkeypatch.setattr(log_place, "available_memory", lambda device: needed)
    assert log_device("device", LOG, gpu) == gpu
    monkeypatch.setattr(log_place, "available_memory", lambda device: needed - 1)
    with pytest.raises(SeqrecError, match=r"hardware\.log=device: the log's events take .* use hardware\.log=host"):
        log_device("device", LOG, gpu)
    for where in ("auto", "device", "host"):  # the mapped files themselves
        assert log_device(where, LOG, CPU) == CPU


def test_a_validation_loss_keeps_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from seqrec_cli.training import validation_loss
    from seqrec_cli.training.validation_loss import ValidationLoss

    asked: list[Any] = []
    monkeypatch.setattr(validation_loss, "log_device", lambda *given: asked.append(given) or CPU)
    cfg = settings("sasrec", "next_item")
    cfg = cfg.model_copy(update={"hardware": cfg.hardware.model_copy(update={"log": "host"})})
    from seqrec_cli.commands.training_setup import fresh_model

    model, objective = fresh_model(cfg, LOG, CPU).eval(), objective_for(cfg, LOG, CPU)
    with torch.inference_mode():
        assert ValidationLoss(cfg, objective, LOG, device=CPU)(model, np.zeros(0), np.zeros(0))
    assert asked == [("host", LOG, CPU)]
