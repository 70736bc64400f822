"""What ends a run: validations (which was the best, when to stop or to reduce the learning rate), and Ctrl-C."""

import math
import signal
import threading
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any, Self

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.metrics.table import lower_is_better

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Stopping:
    """Watches one validation metric. A tie is no improvement: the earlier weights are kept."""

    monitor: str
    patience: int | None  # evaluations without improvement; None: never stop
    best_metrics: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    since_best: int = 0

    def update(self, metrics: dict[str, float], epoch: int) -> bool:
        """Take in a validation; true when it is the best so far."""
        best = self.offer(metrics, epoch)
        self.since_best = 0 if best else self.since_best + 1
        return best

    def offer(self, metrics: dict[str, float], epoch: int) -> bool:
        """Take in a validation of weights other than the run's own (an average): patience is not touched."""
        value = metrics.get(self.monitor)
        if value is None:
            raise SeqrecError(
                f"trainer.monitor={self.monitor}: validation gave no such metric (have: {', '.join(sorted(metrics))})"
            )
        if math.isnan(value):
            raise SeqrecError(f"trainer.monitor={self.monitor} is undefined on this validation data; monitor another")
        if not self.best_metrics or self._better(value, self.best_metrics[self.monitor]):
            self.best_metrics, self.best_epoch = dict(metrics), epoch
            return True
        return False

    def _better(self, value: float, best: float) -> bool:
        return value < best if lower_is_better(self.monitor) else value > best

    @property
    def exhausted(self) -> bool:
        """True when patience has run out."""
        return self.patience is not None and self.since_best >= self.patience

    def state(self) -> dict[str, Any]:
        """What a resumed run needs; `monitor` and `patience` are its own config's."""
        return {key: value for key, value in asdict(self).items() if key not in ("monitor", "patience")}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the `state` of an earlier run."""
        self.best_metrics, self.best_epoch = dict(state["best_metrics"]), state["best_epoch"]
        self.since_best = state["since_best"]


@dataclass
class Plateau:
    """Multiplies the schedule's rate by `factor` after every `patience` evaluations without improvement.

    Evaluations count anew after a reduction and after an improvement.
    """

    patience: int | None  # None: never
    factor: float
    scale: float = 1.0
    since: int = 0

    def update(self, improved: bool) -> None:
        """Take in a validation."""
        self.since = 0 if improved else self.since + 1
        if self.patience is not None and self.since >= self.patience:
            self.scale, self.since = self.scale * self.factor, 0

    def state(self) -> dict[str, Any]:
        """What a resumed run needs; `patience` and `factor` are its own config's."""
        return {"scale": self.scale, "since": self.since}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the `state` of an earlier run."""
        self.scale, self.since = state["scale"], state["since"]


class StopRequest:
    """While entered, Ctrl-C (SIGINT) or SIGTERM sets `requested`, and the loop saves and stops; a second one raises
    KeyboardInterrupt.

    Python delivers signals to the main thread alone, so in another thread nothing is installed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
