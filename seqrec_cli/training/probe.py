"""How fast is it here? A few real steps through the training loop's own code, and the processor's ceiling.

Legend: S batches of an epoch, P probed steps.
"""

import contextlib
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqrec_cli.config.schema import TrainerConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import Objective
from seqrec_cli.training.fitting import Rows
from seqrec_cli.training.loop import _Loop
from seqrec_cli.training.precision import DTYPES, Precision

WARM_UP = 2  # steps before the clock counts: first calls choose kernels and fetch memory
PROBE_SECONDS = 2.0
GEMM_SECONDS = 0.3
GEMM_SIZE = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class Probe:
    """Seconds of each probed step, waiting for its batch included, and the place of its batch in epoch 0."""

    steps_P: np.ndarray
    seconds_P: np.ndarray
    peak_bytes: int | None  # on CUDA: the most that torch held


class _Silent:
    """A listener that nobody reads."""

    def on_start(self, total_steps: int, first_step: int) -> None: ...

    def on_step(self, step: int, loss: float | None, lr: float, targets: int) -> None: ...

    def on_validation(self, row: dict[str, Any]) -> None: ...

    def on_end(self) -> None: ...


def probe_steps(
    model: Recommender, objective: Objective, rows: Rows, cfg: TrainerConfig, precision: Precision
) -> Probe:
    """Train `model`, a copy to be thrown away, for two seconds of epoch 0 (at least one step after the warm-up).

    Writes no file. Raises SeqrecError as training does.
    """
    device = precision.device
    loop = _Loop(model, objective, rows, cfg, precision, dict, {}, Path(), _Silent())
    model.train()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    taken: list[tuple[int, float]] = []
    began = last = time.perf_counter()
    with contextlib.closing(_batches(rows)) as batches:
        for place, batch in batches:
            loop.run_step(batch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            now = time.perf_counter()
            taken.append((place, now - last))
            last = now
            if len(taken) == WARM_UP:
                began = now
            if len(taken) > WARM_UP and now - began >= PROBE_SECONDS:
                break
    counted = taken[WARM_UP:] or taken[-1:]
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Probe(np.array([place for place, _ in counted]), np.array([seconds for _, seconds in counted]), peak)


def _batches(rows: Rows) -> Generator[tuple[int, Batch], None, None]:
    """Epoch 0 and, where it is short, once more: (place in the epoch, batch)."""
    for _ in range(2):
        yield from enumerate(rows.epoch(0))


def spread(seconds_P: np.ndarray, work_P: np.ndarray, work_S: np.ndarray) -> float:
    """Seconds of an epoch whose steps have `work_S` (FLOPs), from a few of them: a line through medians (Theil-Sen).

    Batches of like length differ many times in work, so the median step says little; a line says what the others
    take. It is kept from falling and from beginning below zero.
    """
    first, second = np.triu_indices(len(work_P), 1)
    apart = work_P[first] != work_P[second]
    if apart.sum() >= 3:
        rise = (seconds_P[second] - seconds_P[first])[apart] / (work_P[second] - work_P[first])[apart]
        slope = max(float(np.median(rise)), 0.0)
        start = float(np.median(seconds_P - slope * work_P))
        if start >= 0:
            return float((start + slope * work_S).sum())
    if not work_P.all():
        return float(np.median(seconds_P) * len(work_S))
    return float(np.median(seconds_P / work_P) * work_S.sum())


def gemm_rate(precision: Precision) -> float:
    """FLOP/s of one large matrix product in the run's number format: the ceiling, the best of a few."""
    device, dtype = precision.device, DTYPES.get(precision.name, torch.float32)
    n = GEMM_SIZE.get(device.type, GEMM_SIZE["cpu"])
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    out, best, began, runs = torch.empty_like(a), float("inf"), time.perf_counter(), 0
    while runs < 3 or time.perf_counter() - began < GEMM_SECONDS:
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best, runs = min(best, time.perf_counter() - start), runs + 1
    return float(2 * n**3 / best)
