"""What a fit is given and what it gives: its rows, its listener, where it stands, how it went."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from seqrec_cli.data.batch import Batch

Reason = Literal["finished", "patience", "pruned", "interrupted"]


class Rows(Protocol):
    """Training rows. An epoch's order depends on the epoch's number alone; `start` skips its first batches."""

    @property
    def steps(self) -> int: ...

    def epoch(self, epoch: int, start: int = 0) -> "Iterator[Batch]": ...


class Listener:
    """Who is told how the run goes (a progress bar, TensorBoard, `metrics.jsonl`). This one does nothing."""

    def on_start(self, total_steps: int, first_step: int) -> None:
        """Before the first step; `first_step` steps were done by an earlier run."""

    def on_step(self, step: int, loss: float | None, *, lr: float, targets: int) -> None:
        """After step 1..total_steps, which learned from `targets` predictions; the loss now and then only."""

    def on_validation(self, row: dict[str, Any]) -> None:
        """After a validation: epoch, step, split, seconds, train_loss (since the last one) and the metrics."""

    def gives_up(self) -> bool:
        """After a validation: whether the run is not worth going on with."""
        return False

    def on_end(self) -> None:
        """Once, whatever ended the run."""


@dataclass
class FitResult:
    """How a fit went. `epochs` counts an unfinished one; `seconds` includes validation and earlier, resumed parts."""

    best_metrics: dict[str, float]
    best_epoch: int
    epochs: int
    steps: int
    seconds: float
    reason: Reason


@dataclass
class Progress:
    """Where a run stands: `epoch` epochs are finished and `start` steps of the next are done."""

    epoch: int = 0
    start: int = 0
    step: int = 0  # in all
    seconds: float = 0.0  # before this process
    loss_steps: int = 0  # steps since the last validation, and their summed loss
    loss_sum: float = 0.0
    train_loss: float = 0.0  # the mean at the last validation

    @property
    def epoch_under_way(self) -> int:
        return self.epoch + (self.start > 0)
