"""The training loop: epochs of steps, validations, checkpoints, early stopping, interrupt and resume.

A step is a pure function of (weights, optimizer state, seed, step number): the order of rows comes from
`rows.epoch(epoch, start)`, and the random state is set anew at every step. So a run that was interrupted, even in
the middle of an epoch, and resumed gives the same bits on a CPU as one that was not.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainerConfig
from seqrec_cli.data.batch import Batch, count_targets
from seqrec_cli.data.devices import widest_float
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import Objective
from seqrec_cli.processes import ProcessLostError, current
from seqrec_cli.training.averaging import EpochAverage, MovingAverage
from seqrec_cli.training.checkpoint import BEST, LAST
from seqrec_cli.training.divergence import refuse_divergence, refuse_infinite_weights
from seqrec_cli.training.fitting import FitResult, Listener, Progress, Reason, Rows
from seqrec_cli.training.optim import build_optimizer, learning_rate, update
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.sharded_fit import ShardedFit
from seqrec_cli.training.shared_steps import Share, Told, seed_step, sum_gradients
from seqrec_cli.training.stopping import Plateau, Stopping, StopRequest

LOG_EVERY = 20  # steps between losses reported to the listener: reading one from a GPU waits for it


def fit(
    model: Recommender,
    objective: Objective,
    rows: Rows,
    *,
    cfg: TrainerConfig,
    precision: Precision,
    validate: Callable[[], dict[str, float]],
    header: dict[str, Any],
    folder: Path,
    listener: Listener,
    resume_from: dict[str, Any] | None,
) -> FitResult:
    """Train `model` in place, on `precision.device`.

    Writes `folder/best.pt` at every improvement of the monitored metric and `folder/last.pt` at every epoch's end
    (and when interrupted); `header` gives their config, facts and fingerprint. `resume_from` is a loaded `last.pt`
    of the same folder. The best weights are in `model` at the end, unless interrupted: then the last ones. A run ends
    after a validation, too, where the listener gives it up. Of several processes (`processes.together`) each learns
    from its share of a batch, and the first alone reads and writes the folder.
    Raises SeqrecError when there is nothing to train on, or when the loss or the weights stop being finite.
    """
    if rows.steps < 1:
        raise SeqrecError("no training rows: every history is too short after the filters; loosen dataset.*_core")
    loop = Loop(
        model,
        objective,
        rows,
        cfg=cfg,
        precision=precision,
        validate=validate,
        header=header,
        folder=folder,
        listener=listener,
    )
    if resume_from is not None:
        loop.restore(resume_from)
    with StopRequest() as stop:
        listener.on_start(loop.total_steps, loop.progress.step)
        try:
            reason = loop.run(stop)
        finally:
            listener.on_end()
    if reason != "interrupted":
        loop.sharded.load_best(folder, loop.processes)
    best, at = loop.stopping, loop.progress
    return FitResult(best.best_metrics, best.best_epoch, at.epoch_under_way, at.step, loop.seconds(), reason)


@dataclass
class Loop:
    """One fit: what it works on, and where it stands."""

    model: Recommender
    objective: Objective
    rows: Rows
    _: KW_ONLY
    cfg: TrainerConfig
    precision: Precision
    validate: Callable[[], dict[str, float]]
    header: dict[str, Any]
    folder: Path
    listener: Listener

    def __post_init__(self) -> None:
        self.processes = current()
        self.stop, self.told = StopRequest(), Told()
        self.model.to(self.precision.device)
        self.optimizer = build_optimizer(self.model, self.cfg)
        self.sharded = ShardedFit(self.model, self.optimizer)
        self.scaler = self.precision.scaler()
        self.average = None if self.cfg.ema is None else MovingAverage(self.model, self.cfg.ema)
        self.swa = None if self.cfg.swa_epochs is None else EpochAverage(self.model, self.cfg.swa_epochs)
        self.stopping = Stopping(self.cfg.monitor, self.cfg.patience)
        self.plateau = Plateau(self.cfg.plateau, self.cfg.plateau_factor)
        self.progress = Progress()
        self.metrics: dict[str, float] = {}  # of the last validation
        self.given_up = False  # by the listener
        device = self.precision.device
        self.loss_sum = torch.zeros((), dtype=widest_float(device), device=device)
        self.began = time.perf_counter()
        steps = self.cfg.max_epochs * self.rows.steps
        self.total_steps = min(steps, self.cfg.max_steps or steps)
        self.seconds_allowed = None if self.cfg.minutes is None else 60 * self.cfg.minutes

    def seconds(self) -> float:
        return self.progress.seconds + time.perf_counter() - self.began

    def run(self, stop: StopRequest) -> Reason:
        """Epochs until a reason to end."""
        self.stop = stop
        while True:
            self.told = Told(self.processes.any(stop.requested), self.told.seconds)
            if self.stops():
                self.save_last()
                return "interrupted"
            if self.given_up:
                return "pruned"
            done = self.progress.step >= self.total_steps and self.progress.loss_steps == 0  # and validated
            if self.stopping.exhausted or done:
                self.validate_epoch_average()
                return "patience" if self.stopping.exhausted else "finished"
            self.run_epoch()
            if not self.stops():
                self.close_epoch()

    def stops(self) -> bool:
        """Whether the run was asked to stop; several processes stop after the same step."""
        return self.told.stop if self.processes.several else self.stop.requested

    def clock(self) -> float:
        """Seconds so far, by which all processes decide the same."""
        return self.told.seconds if self.processes.several else self.seconds()

    def run_epoch(self) -> None:
        """The steps left of this epoch, or up to a stop or the step limit."""
        self.model.train()
        at = self.progress
        if at.start >= self.rows.steps or at.step >= self.total_steps:
            return
        for batch in self.rows.epoch(at.epoch, at.start):
            try:
                self.run_step(batch)
            except ProcessLostError:  # before anything was updated: what is lost is this step
                if not self.sharded:  # whose rows are lost with the process
                    self.save_last()
                raise
            if self.stops() or at.step >= self.total_steps:
                return
        if at.start < self.rows.steps:
            raise RuntimeError(f"epoch {at.epoch} gave {at.start} batches, rows.steps promised {self.rows.steps}")

    def run_step(self, batch: Batch) -> None:
        at, device = self.progress, self.precision.device
        step, targets = at.step + 1, count_targets(batch)
        seed_step(self.cfg.seed, step)
        self.objective.at_epoch(at.step / self.rows.steps)
        loss = self.accumulate_gradients(batch)
        if self.processes.several:
            parameters = self.sharded.common(p for group in self.optimizer.param_groups for p in group["params"])
            own = Told(self.stop.requested, self.seconds())
            self.told = sum_gradients(parameters, loss, self.processes, own=own)
        reported = step % LOG_EVERY == 0 or step == self.total_steps
        value = loss.item() if reported or device.type == "cpu" else None
        if value is not None:
            self.check_finite(value, step)
        lr = learning_rate(self.cfg, step, self.expected_steps(step)) * self.plateau.scale
        update(self.optimizer, self.scaler, lr=lr, clip_norm=self.cfg.clip_norm, shards=self.sharded.shards)
        self.objective.after_step(self.model, batch)
        if self.average is not None:
            self.average.update(step)
        self.loss_sum += loss
        at.step, at.start, at.loss_steps = step, at.start + 1, at.loss_steps + 1
        if self.seconds_allowed is not None and self.clock() >= self.seconds_allowed:
            self.total_steps = step  # as if trainer.max_steps had said so
        self.listener.on_step(step, value if reported else None, lr=lr, targets=targets)

    def expected_steps(self, step: int) -> int:
        """The steps of the whole run, fewer where `trainer.minutes` will end it sooner at the pace so far: a rate that
        falls to a run's end is to get there."""
        if self.seconds_allowed is None or step <= self.cfg.warmup_steps:
            return self.total_steps
        return min(self.total_steps, max(step, int(step * self.seconds_allowed / max(self.clock(), 1e-3))))

    def accumulate_gradients(self, batch: Batch) -> Tensor:
        """The batch's loss; its gradients are summed over what it is made of.

        An ensemble's members each learn from their own loss; the mean of the losses is returned.
        """
        total, trainables = torch.zeros((), device=self.precision.device), self.model.trainable_models()
        # Around all parts, so that autocast keeps the weights that it has cast until the last.
        with torch.autocast(self.precision.device.type, enabled=False):
            for trainable in trainables:
                for loss in self.losses(trainable, batch):
                    self.scaler.scale(loss).backward()
                    total += loss.detach() / len(trainables)
        return total

    def losses(self, model: Recommender, batch: Batch) -> Iterator[Tensor]:
        """What adds up to the batch's loss: all of it, or the loss of each micro-batch, made when it is asked for, and
        at last the term of the batch as a whole. Of several processes each has those of its rows, the first that term.
        """
        tokens, device = self.cfg.micro_batch_tokens, self.precision.device
        if self.processes.several:
            seed = self.cfg.seed, self.progress.step + 1, self.processes.rank
            share = Share(self.objective, batch, self.processes, precision=self.precision)
            yield from share.losses(model, tokens, seed=seed)
            return
        if tokens is None or batch.items_BL.numel() <= tokens:
            with self.precision.autocast():
                loss = self.objective.loss(model, batch.to(device))
            yield loss
            return
        batch = self.objective.drawn(batch)
        for part in batch.parts(tokens):
            with self.precision.autocast():
                loss = self.objective.part_loss(model, part.to(device), of=batch)
            yield loss
        with self.precision.autocast():
            penalty = model.penalty(batch.to(device))
        if penalty is not None:
            yield penalty

    def close_epoch(self) -> None:
        """Count the epoch, validate if it is time, keep what was best, and save."""
        at = self.progress
        epoch, whole = at.epoch_under_way, at.start >= self.rows.steps
        self.sharded.equalise(self.average, self.processes)
        if whole:
            at.epoch, at.start = at.epoch + 1, 0
        self.check_finite(self.loss_sum.item(), at.step)
        if self.swa is not None:
            self.swa.keep(epoch)
        if at.step >= self.total_steps or (whole and epoch % self.cfg.evaluate_every == 0):
            self.run_validation(epoch)
        self.save_last()

    def run_validation(self, epoch: int) -> None:
        at = self.progress
        self.check_weights()
        train_loss = self.loss_sum.item() / at.loss_steps
        self.model.eval()
        with contextlib.nullcontext() if self.average is None else self.average.applied():
            metrics = self.validate_and_report(epoch, "val", train_loss)
            improved = self.stopping.update(metrics, epoch)
            self.plateau.update(improved)
            if improved:
                self.save(BEST, epoch, metrics, trainer=None)
        self.given_up = self.processes.from_first(self.listener.gives_up())
        self.metrics, at.loss_steps, at.train_loss = metrics, 0, train_loss
        self.loss_sum.zero_()

    def validate_and_report(self, epoch: int, split: str, train_loss: float) -> dict[str, float]:
        """Validate the model's present weights, and report to the listener."""
        found = {name: float(value) for name, value in self.validate().items()}
        metrics = self.processes.from_first(found)  # decided on once
        row = {"epoch": epoch, "step": self.progress.step, "split": split, "seconds": self.seconds()}
        self.listener.on_validation({**row, "train_loss": train_loss, **metrics})
        return metrics

    def validate_epoch_average(self) -> None:
        """At a run's end, once: the mean of the last epochs' weights is kept if it is better than the best epoch."""
        at = self.progress
        if self.swa is None or len(self.swa.kept) < 2 or self.swa.validated_at == at.step:
            return
        epoch = max(self.swa.kept)
        self.model.eval()
        with self.swa.applied():
            metrics = self.validate_and_report(epoch, "val_swa", at.train_loss)
            if self.stopping.offer(metrics, epoch):
                self.save(BEST, epoch, metrics, trainer=None)
        self.swa.validated_at = at.step
        self.save_last()

    def check_finite(self, loss: float, step: int) -> None:
        refuse_divergence(loss, self.scaler, self.cfg, step=step)

    def check_weights(self) -> None:
        """A checkpoint never holds NaN: a finite loss can still have had gradients that are not."""
        refuse_infinite_weights(self.model, self.cfg, step=self.progress.step)

    def save_last(self) -> None:
        self.check_weights()
        at = self.progress
        trainer = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "stopping": self.stopping.state(),
            "plateau": self.plateau.state(),
            "swa": None if self.swa is None else self.swa.state(),
            "average": None if self.average is None else self.average.state(),
            "objective": self.objective.state(),
            "progress": {**asdict(at), "seconds": self.seconds(), "loss_sum": self.loss_sum.item()},
        }
        self.save(LAST, at.epoch, self.metrics, trainer=trainer)

    def save(self, name: str, epoch: int, metrics: dict[str, float], *, trainer: dict[str, Any] | None) -> None:
        moment = {"epoch": epoch, "step": self.progress.step, "metrics": metrics, "trainer": trainer}
        payload = {**self.header, **moment, "model": self.model.state_dict()}
        self.sharded.save(self.folder / name, payload, self.processes)

    def restore(self, payload: dict[str, Any]) -> None:
        trainer = payload["trainer"]
        if trainer is None:
            raise SeqrecError(f"this checkpoint holds weights alone; resume from the run's {LAST}")
        payload = self.sharded.own(payload, self.folder / LAST)
        trainer = payload["trainer"]
        try:
            self.model.load_state_dict(payload["model"])
            self.optimizer.load_state_dict(trainer["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise SeqrecError(
                "the checkpoint's weights do not fit this model; resume with the run's config, hardware.embedding too"
            ) from error
        if self.scaler.is_enabled() and trainer["scaler"]:
            self.scaler.load_state_dict(trainer["scaler"])
        self.stopping.restore(trainer["stopping"])
        if "plateau" in trainer:  # absent from older checkpoints
            self.plateau.restore(trainer["plateau"])
        if self.swa is not None:
            self.swa.restore(trainer.get("swa"))
        if self.average is not None:
            self.average.restore(trainer.get("average"))  # absent from older checkpoints
        if trainer.get("objective") is not None:
            self.objective.restore(trainer["objective"])
        self.progress = Progress(**trainer["progress"])
        self.loss_sum.fill_(self.progress.loss_sum)
        self.metrics = payload["metrics"]
