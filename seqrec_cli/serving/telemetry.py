"""What a service tells of itself: a line of JSON a request on standard error, and counters for Prometheus."""

import json
import os
import sys
import threading
import time
from collections import deque
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # where several processes add up their counters
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
FLUSH_S = 0.05


class Journal:
    """Lines of JSON on standard error, written a few at a time by a thread: a log that nobody reads stops no request.

    What cannot be kept is counted, and the count is written when there is room again.
    """

    MOST = 10_000  # lines that wait

    def __init__(self) -> None:
        self._lines: deque[dict[str, Any]] = deque()
        self._lost = 0
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="journal", daemon=True)
        self._writer.start()

    def write(self, event: str, **facts: Any) -> None:
        """A line now or within a moment."""
        if len(self._lines) >= self.MOST:
            self._lost += 1
            return
        self._lines.append({"time": time.time(), "event": event, **facts})

    def close(self) -> None:
        """Write what is left."""
        self._ended.set()
        self._writer.join(timeout=2.0)

    def _write_on(self) -> None:
        while not self._ended.wait(FLUSH_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        if self._lost:
            lost, self._lost = self._lost, 0
            self._lines.append({"time": time.time(), "event": "lines lost", "count": lost})
        if not self._lines:
            return
        text = "".join(f"{json.dumps(self._lines.popleft())}\n" for _ in range(len(self._lines)))
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):  # closed
            return


class Meters:
    """Counters and histograms under the name `seqrec_...`."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "seqrec_requests", "Requests by route and status.", ("route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "seqrec_request_seconds",
            "From a request's head to its answer.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self._rows = Histogram("seqrec_batch_rows", "Questions answered together.", buckets=ROWS, registry=registry)
        self._model = Histogram("seqrec_model_seconds", "The model's time a batch.", buckets=SECONDS, registry=registry)
        self._by = Counter("seqrec_answers", "Answers by what gave them.", ("answered_by",), registry=registry)
        self._reloads = Counter("seqrec_reloads", "Checkpoints that were read anew.", ("outcome",), registry=registry)
        self._log_lines = Counter(
            "seqrec_log_lines", "Of an online experiment's log.", ("kind", "arm", "outcome"), registry=registry
        )
        self.waiting = Gauge(
            "seqrec_requests_waiting",
            "Requests let in and not yet answered.",
            registry=registry,
            multiprocess_mode="livesum",
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, rows: int, seconds: float) -> None:
        self._rows.observe(rows)
        self._model.observe(seconds)

    def answered(self, by: str) -> None:
        self._by.labels(by).inc()

    def reloaded(self, outcome: str) -> None:
        self._reloads.labels(outcome).inc()

    def logged(self, kind: str, arm: str, outcome: str) -> None:
        self._log_lines.labels(kind, arm, outcome).inc()

    def page(self) -> tuple[bytes, str]:
        """All of them in Prometheus' text, and its type; of several processes, their sums."""
        registry = self._registry
        if SHARED in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        return generate_latest(registry), CONTENT_TYPE_LATEST
