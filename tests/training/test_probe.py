"""Steps of the probe, and the epoch worked out from them."""

import numpy as np
import pytest
import torch
from planned import built, config

from seqrec_cli.training import probe
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.probe import gemm_rate, probe_steps, spread

CPU = Precision(torch.device("cpu"), "fp32")


def test_probe_takes_real_steps_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    model, objective, rows = built(["model=sasrec"])
    before = model.item_table().clone()  # type: ignore[operator]
    monkeypatch.setattr(probe, "PROBE_SECONDS", 60.0)
    found = probe_steps(model, objective, rows, config(["model=sasrec"]).trainer, CPU)
    assert list(found.steps_P) == [*range(rows.steps), *range(rows.steps)][probe.WARM_UP :]
    assert (found.seconds_P > 0).all()
    assert not torch.equal(model.item_table(), before)  # type: ignore[operator]
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.0)
    assert len(probe_steps(model, objective, rows, config(["model=sasrec"]).trainer, CPU).steps_P) == 1


WORK = np.array([1.0, 2.0, 3.0, 4.0, 5.0])


def test_an_epoch_from_steps_on_a_line() -> None:
    assert spread(0.5 + 2 * WORK, WORK, np.array([10.0, 20.0])) == pytest.approx(0.5 * 2 + 2 * 30)


def test_one_slow_step_moves_little() -> None:
    seconds = 2 * WORK
    seconds[2] = 100
    assert spread(seconds, WORK, WORK) == pytest.approx(30)


def test_steps_of_equal_work_count_in_proportion() -> None:
    assert spread(np.array([3.0, 2.0, 9.0]), np.array([2.0, 2.0, 2.0]), np.array([2.0, 2.0, 4.0])) == pytest.approx(12)
    assert spread(np.array([3.0]), np.array([2.0]), np.array([2.0, 4.0])) == pytest.approx(9)


def test_time_never_falls_with_work() -> None:
    assert spread(6 - WORK, WORK, np.array([0.0, 100.0])) == pytest.approx(6)


def test_ceiling_is_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "GEMM_SIZE", {"cpu": 64})
    monkeypatch.setattr(probe, "GEMM_SECONDS", 0.0)
    assert 1e6 < gemm_rate(CPU) < 1e15
