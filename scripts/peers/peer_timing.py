"""What every peer script shares: the request, the allocator, the clock of training steps and the answer.

A peer script runs under the Python of that peer's own environment, so nothing here may import seqrec. It gets one
argument, the path of a JSON request (written by `bench_peers.py`), and ends by printing one JSON line. Its file is not
called after the peer: Python puts a script's folder first on the path, and the file would hide the package.

Legend: N events, U users.
"""

import contextlib
import ctypes
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

now = time.process_time if os.environ.get("SEQREC_BENCH_CLOCK") == "cpu" else time.perf_counter  # as scripts/clock.py


def read_request() -> dict[str, Any]:
    """The request; with `tuned`, glibc is told to keep freed memory before anything large is allocated."""
    request: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if request["tuned"]:
        keep_freed_memory()
    return request


def keep_freed_memory() -> None:
    """As seqrec does for itself (training/precision.py): freed blocks stay for the next step."""
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2  # malloc.h
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        if not mallopt(mmap_threshold, 1 << 30):
            mallopt(mmap_threshold, 32 << 20)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 256 << 20)


def read_histories(request: dict[str, Any]) -> list[list[int]]:
    """Items (from 1) of every user who is evaluated, in order; the last two are held out."""
    import numpy as np

    table_N2 = np.loadtxt(request["events"], dtype=np.int64)
    _, starts_U = np.unique(table_N2[:, 0], return_index=True)
    return [part.tolist() for part in np.split(table_N2[:, 1], starts_U[1:]) if len(part) >= 3]


class Clock:
    """Counts training steps and the targets they taught, from the end of the warm-up on."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.warm_up, self.limit, self.max_seconds = request["warm_up"], request["steps"], request["max_seconds"]
        self.steps = self.targets = self.rows = 0
        self.began = self.now = now()

    def step(self, targets: int, rows: int) -> None:
        """After each step."""
        self.now = now()
        self.steps += 1
        if self.steps <= self.warm_up:
            self.began = self.now
            return
        self.targets += targets
        self.rows += rows

    @property
    def total(self) -> int:
        """Steps to take, warm-up included."""
        return int(self.warm_up + self.limit)

    @property
    def done(self) -> bool:
        late = self.steps > self.warm_up and self.now - self.began >= self.max_seconds
        return self.steps >= self.total or late

    def answer(self, what: str) -> dict[str, Any]:
        seconds, steps = self.now - self.began, self.steps - self.warm_up
        return {
            "what": what,
            "steps": steps,
            "warm_up": self.warm_up,
            "seconds": seconds,
            "targets": self.targets,
            "targets_s": self.targets / seconds,
            "sequences_s": self.rows / seconds,
            "ms_step": 1000 * seconds / steps,
        }


class Counted:
    """A loader's batches until the clock has seen enough; a step ends when the next batch is asked for."""

    def __init__(self, loader: Any, clock: Clock) -> None:
        self.loader, self.clock = loader, clock

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Any]:
        while not self.clock.done:
            for batch in self.loader:
                rows = len(batch[1]) if isinstance(batch, list | tuple) else len(batch)
                yield batch
                self.clock.step(rows, rows)  # one target a row
                if self.clock.done:
                    return


def evaluation_answer(what: str, users: int, items: int, seconds: float, seen_removed: bool) -> dict[str, Any]:
    return {
        "what": what,
        "users": users,
        "seconds": seconds,
        "users_s": users / seconds,
        "scores_s": users * items / seconds,
        "seen_removed": seen_removed,
    }


def give(request: dict[str, Any], peer: str, distribution: str, model: str, **parts: Any) -> None:
    """Print the answer; `parts` are train and evaluate."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    answer = {
        "peer": peer,
        "version": metadata.version(distribution),
        "torch": metadata.version("torch"),
        "model": model,
        "precision": request["precision"],
        "tuned": request["tuned"],
        "threads": request["threads"],
        "peak_memory_mb": peak,
        **{name: part for name, part in parts.items() if part is not None},
    }
    print(json.dumps(answer), flush=True)
