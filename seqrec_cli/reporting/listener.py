"""What a training run says while it goes on: a progress bar or plain lines, TensorBoard scalars, `metrics.jsonl`."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from seqrec_cli.metrics.table import lower_is_better
from seqrec_cli.reporting.environment import seconds_since_start
from seqrec_cli.reporting.lines import Lines
from seqrec_cli.reporting.run_folder import RunFolder, read_rows
from seqrec_cli.training.fitting import Listener

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter  # more than a second to import: see `_scalars`

REFRESH_SECONDS = 0.1  # of the progress bar's numbers
TEXT_WIDTH = 74  # columns the progress line needs besides its bar
Watch = Callable[[float, float], bool]  # the monitored metric and the share of steps done; True ends the run
NOT_METRICS = ("epoch", "step", "split", "seconds", "train_loss")  # of a validation's row


class TrainingListener(Listener):
    """Reports to the console and to a run's folder.

    On a terminal a progress bar (epoch, step, loss, learning rate, rate, time left: the whole plan's, which early
    stopping may cut short); elsewhere one plain line a validation. `steps_per_epoch` counts optimizer steps.
    The manifest gets `first_step_seconds`, from the start of the process to the end of the first step, and at the end
    `targets_per_second`, of the steps alone. `watch` is told
    each validation and the share of steps done; where it says True the run ends.
    """

    def __init__(
        self,
        folder: RunFolder,
        monitor: str,
        steps_per_epoch: int,
        *,
        console: Console | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.watch, self.given_up = watch, False
        self.folder, self.monitor, self.steps_per_epoch = folder, monitor, steps_per_epoch
        self.console = console or Lines(highlight=False)
        self.total_steps = self.first_step = 0
        self.best: float | None = None
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._writer: SummaryWriter | None = None
        self._stepped = False
        self._loss: float | None = None
        self._lr = 0.0
        self._targets, self._seconds = 0, 0.0  # learned from since the last validation, and the time it took
        self._learned, self._spent = 0, 0.0  # the same from the start on
        self._clock = self._shown = time.perf_counter()

    def on_start(self, total_steps: int, first_step: int) -> None:
        self.total_steps, self.first_step = total_steps, first_step
        for row in read_rows(self.folder.metrics_jsonl):
            if row["step"] <= first_step and self.monitor in row:
                self._is_best(row[self.monitor])
        self._clock = time.perf_counter()
        if self.console.is_terminal:
            self._bar = self._progress_bar()
            self._task = self._bar.add_task(
                "train", total=total_steps, completed=first_step, epoch=self._epoch(first_step + 1), facts=""
            )
            self._bar.start()

    def on_step(self, step: int, loss: float | None, *, lr: float, targets: int) -> None:
        now = time.perf_counter()
        self._seconds += now - self._clock
        self._targets += targets
        self._lr = lr
        if not self._stepped:
            self._stepped = True
            if (since_start := seconds_since_start()) is not None:
                self.folder.write_manifest({"first_step_seconds": round(since_start, 2)})
        if loss is not None:
            self._loss = loss
            self._scalars({"train/loss": loss, "train/lr": lr}, step)
        if self._bar is not None and (now - self._shown >= REFRESH_SECONDS or step == self.total_steps):
            self._shown = now
            self._bar.update(self._task, completed=step, epoch=self._epoch(step), facts=self._facts())
        self._clock = time.perf_counter()  # reporting is not training: it stays out of the rate

    def on_validation(self, row: dict[str, Any]) -> None:
        self.folder.append_metrics(row)
        metrics = {name: value for name, value in row.items() if name not in NOT_METRICS}
        self._scalars({f"{row['split']}/{name}": value for name, value in metrics.items()}, row["step"])
        value = metrics[self.monitor]
        mark = " (best)" if self._is_best(value) else ""
        line = (
            f"epoch {row['epoch']}  step {row['step']}/{self.total_steps}  train loss {row['train_loss']:.4f}  "
            f"{row['split']} {self.monitor} {value:.4f}{mark}  {self._rate()}  {row['seconds']:.1f} s"
        )
        # Through the bar's console the line goes above the bar; unwrapped, or a log would break it.
        self.console.print(line, soft_wrap=True, markup=False)
        if self.watch is not None and row["split"] == "val":
            self.given_up = self.watch(value, row["step"] / self.total_steps)
        self._count()
        self._clock = time.perf_counter()

    def _count(self) -> None:
        self._learned, self._spent = self._learned + self._targets, self._spent + self._seconds
        self._targets, self._seconds = 0, 0.0

    def gives_up(self) -> bool:
        return self.given_up

    def on_end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._count()
        if self._spent > 0:
            self.folder.write_manifest({"targets_per_second": round(self._learned / self._spent, 1)})
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _is_best(self, value: float) -> bool:
        better = self.best is None or (value < self.best if lower_is_better(self.monitor) else value > self.best)
        if better:
            self.best = value
        return better

    def _scalars(self, scalars: dict[str, float], step: int) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # A resumed run's steps hide the ones an interrupted run wrote after its last checkpoint.
            purge = self.first_step + 1 if self.first_step else None
            self._writer = SummaryWriter(str(self.folder.tensorboard), purge_step=purge)
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def _progress_bar(self) -> Progress:
        return Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=max(4, min(40, self.console.width - TEXT_WIDTH))),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self.console,
            refresh_per_second=4,
        )

    def _epoch(self, step: int) -> str:
        per_epoch = self.steps_per_epoch
        last = -(-self.total_steps // per_epoch)
        return f"{min(-(-step // per_epoch), last)}/{last}"

    def _facts(self) -> str:
        loss = "" if self._loss is None else f"loss {self._loss:.4f} "
        return f"{loss}lr {self._lr:.1e} {self._rate()}"

    def _rate(self) -> str:
        rate = self._targets / self._seconds if self._seconds > 0 else 0.0
        return f"{rate / 1000:.1f}k targets/s" if rate >= 1000 else f"{rate:.0f} targets/s"
