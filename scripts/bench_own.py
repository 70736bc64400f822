"""seqrec's own side of the benchmark: the steps `seqrec train` takes, timed through its own loop.

Legend: S timed steps, B rows of a batch.
"""

import contextlib
import itertools
import statistics
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.bench_ceiling import ceiling, synchronize
from scripts.bench_flops import by_part, flops_of_terms, useful_terms
from scripts.clock import now
from seqrec_cli import kernels
from seqrec_cli.commands.console import say
from seqrec_cli.commands.settle import settle
from seqrec_cli.commands.teaching import stand_in
from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows
from seqrec_cli.commands.vectors_of_run import give_vectors
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.objective import WindowConfig
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch, part_bounds
from seqrec_cli.data.batching import BatchedRows
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.sizes import padded_length
from seqrec_cli.data.splits import held_out
from seqrec_cli.evaluation.evaluate import evaluate
from seqrec_cli.models.contract import Recommender, SequenceEncoder
from seqrec_cli.objectives.contract import Objective
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.reporting.environment import peak_memory
from seqrec_cli.training.closed_form import fit_closed_form
from seqrec_cli.training.fitting import Listener
from seqrec_cli.training.loop import fit
from seqrec_cli.training.precision import Precision, resolve_precision

# Steps before the clock: kernels are chosen, compiled and their memory fetched. An epoch, for a CPU's allocator is
# done growing when it has seen every batch's shape (5 to 12 us a page on a virtual machine); of long epochs a part.
LEAST_WARM_UP, MOST_WARM_UP = 10, 50
EVALUATIONS = 3  # passes over the test users, fewer where they take long
EVALUATION_SECONDS = 10.0
PROFILE_ROWS = 30


@dataclass(frozen=True)
class Setup:
    """What a run of `seqrec train` would work on."""

    cfg: TrainConfig
    log: PackedLog
    precision: Precision
    objective: Objective
    rows: BatchedRows

    def model(self) -> Recommender:
        """A fresh one on the device."""
        return fresh_model(self.cfg, self.log, self.precision.device)

    def counted_model(self) -> Recommender:
        """A fresh one with all that is counted before its first step: a model's codes, an ensemble's EASE."""
        model = self.model()
        give_vectors(model, self.cfg, self.log)
        fit_closed_form(model, self.log)
        return model


def set_up(cfg: TrainConfig, tell: Callable[[str], None] = say) -> Setup:
    """Data (preprocessed if need be), device, objective and rows. Raises SeqrecError for a model without steps."""
    precision = resolve_precision(cfg.hardware)  # first: the allocator is told before anything large
    if cfg.objective.capabilities.rows == "none":
        raise SeqrecError(f"model={cfg.model.name} is fitted by counting: there is no training step to time")
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), tell), cfg.protocol, tell)
    cfg = settle(cfg, log, tell=tell)
    objective = objective_for(cfg, log, precision.device)
    return Setup(
        cfg,
        log,
        precision,
        objective,
        training_rows(cfg, objective, log, device=precision.device, soft=stand_in(cfg, log)),
    )


def take_turn(
    overrides: list[str], config_dir: str | None, parts: Sequence[str], steps: int | None
) -> dict[str, dict[str, Any]]:
    """What was asked of training and evaluation, and then this process's ceiling and how near to it training was."""
    cfg = validate("train", compose("train", overrides, config_dir))
    assert isinstance(cfg, TrainConfig)
    setup, figures = set_up(cfg, lambda _: None), {}  # the caller has prepared the data
    if "train" in parts:
        figures["train"] = time_training(setup, steps)
    if "evaluate" in parts:
        figures["evaluate"] = time_evaluation(setup)
    limit = figures["ceiling"] = ceiling(setup.precision)  # last: its tensors stay in the allocator
    if train := figures.get("train"):
        train["fraction_of_gemm"] = train["useful_gflop_s"] / limit[f"gemm_{setup.precision.name}_gflop_s"]
    return figures


def _batches(rows: BatchedRows, epoch: int = 0) -> Generator[Batch, None, None]:
    """An epoch that can be closed before its end."""
    yield from rows.epoch(epoch)


@dataclass
class TimedRows:
    """Rows as one epoch: warm-up batches of epoch 1, then `count` of epoch 0 (and on), at whose start `begin` is
    called."""

    rows: BatchedRows
    warm_up: int
    count: int
    begin: Callable[[], None]
    lengths_S: list[torch.Tensor] = field(default_factory=list)  # [B] each, of the timed batches

    @property
    def steps(self) -> int:
        return self.warm_up + self.count

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        yield from self._take(self.warm_up, 1)
        self.begin()
        for batch in self._take(self.count, 0):
            self.lengths_S.append(batch.lengths_B)
            yield batch

    def _take(self, count: int, first: int) -> Iterator[Batch]:
        for epoch in itertools.count(first):
            with contextlib.closing(_batches(self.rows, epoch)) as batches:
                for batch in batches:
                    yield batch
                    count -= 1
                    if not count:
                        return


@dataclass
class Marks(Listener):
    """A listener that knows when each step ended and what it taught."""

    last: int
    end: Callable[[], None]
    at: list[float] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def on_step(self, step: int, loss: float | None, *, lr: float, targets: int) -> None:
        if step == self.last:
            self.end()
        self.at.append(now())
        self.targets.append(targets)


def drive(
    setup: Setup, warm_up: int, count: int, begin: Callable[[], None], end: Callable[[], None]
) -> tuple[Recommender, TimedRows, Marks]:
    """Train a fresh model for `warm_up + count` steps by `fit`, as `seqrec train` does, without validation."""
    cfg = setup.cfg.trainer.model_copy(update={"max_epochs": 1, "max_steps": None})
    model = setup.model()
    rows, marks = TimedRows(setup.rows, warm_up, count, begin), Marks(warm_up + count, end)
    with tempfile.TemporaryDirectory() as folder:
        fit(
            model=model,
            objective=setup.objective,
            rows=rows,
            cfg=cfg,
            precision=setup.precision,
            validate=lambda: {cfg.monitor: 0.0},
            header={"config": {}, "facts": {}, "fingerprint": ""},
            folder=Path(folder),
            listener=marks,
            resume_from=None,
        )
    return model, rows, marks


def padded_tokens(lengths: list[int], cfg: TrainConfig) -> int:
    """Of a batch worked on in parts; packed rows have no padding."""
    if isinstance(cfg.objective, WindowConfig) and cfg.objective.window == "packed":
        return sum(lengths)
    bounds, widest = part_bounds(lengths, cfg.trainer.micro_batch_tokens), max(lengths)
    return sum((last - first) * padded_length(max(lengths[first:last]), widest) for first, last in bounds)


def warm_up(setup: Setup) -> int:
    """Steps before the clock."""
    return min(max(LEAST_WARM_UP, setup.rows.steps), MOST_WARM_UP)


def time_training(setup: Setup, steps: int | None) -> dict[str, Any]:
    """A whole epoch (or `steps`) after the warm-up: rates, time, memory and useful FLOPs."""
    if setup.rows.steps < 1:
        raise SeqrecError("no training rows: every history is too short after the filters; loosen dataset.*_core")
    count, device, began = steps or setup.rows.steps, setup.precision.device, [0.0]

    def begin() -> None:
        forget_peak(device)
        synchronize(device)
        began[0] = now()

    model, rows, marks = drive(setup, warm_up(setup), count, begin, lambda: synchronize(device))
    ends_S = np.array([began[0], *marks.at[-count:]])
    seconds = float(ends_S[-1] - ends_S[0])
    tokens, targets = sum(int(lengths_B.sum()) for lengths_B in rows.lengths_S), sum(marks.targets[-count:])
    padded = sum(padded_tokens(lengths_B.tolist(), setup.cfg) for lengths_B in rows.lengths_S)
    sequences = sum(map(len, rows.lengths_S))
    flops = useful_flops(setup, model, count)
    return {
        "what": "training.loop.fit, loader and optimizer included, validation and checkpoints not",
        "steps": count,
        "warm_up": rows.warm_up,
        "seconds": seconds,
        "tokens": tokens,
        "padded_tokens": padded,
        "targets": targets,
        "sequences": sequences,
        "tokens_s": tokens / seconds,
        "padded_tokens_s": padded / seconds,
        "targets_s": targets / seconds,
        "sequences_s": sequences / seconds,
        "ms_step": 1000 * seconds / count,
        "ms_step_median": 1000 * statistics.median(np.diff(ends_S).tolist()),
        "epoch_steps": setup.rows.steps,
        "epoch_seconds": seconds * setup.rows.steps / count,
        "useful_flop": flops,
        "useful_gflop_s": sum(flops.values()) / seconds / 1e9,
        **peak_memory(device),
    }


def useful_flops(setup: Setup, model: Recommender, steps: int, *, first: int = 0) -> dict[str, float]:
    """FLOPs of forward and backward that `steps` could not do without, from that step of epoch 0 (and on), by part.

    Products alone, two FLOPs a multiply-add: 6 for each matrix weight and real token, attention over real places (half
    of them under a causal mask), 6 N D V of a softmax over the corpus. Padding and repeated work count nothing: they
    are counted in torch's operators, for a Triton kernel makes the scores anew in its backward pass.
    """
    rows, objective = setup.rows, setup.objective
    largest = rows.largest()
    sizes = itertools.chain.from_iterable(rows.sizes(epoch) for epoch in itertools.count())
    candidates = None if largest.candidates_BC is None else 1 + objective.negatives_per_row
    terms_S6 = useful_terms(itertools.islice(sizes, first, first + steps), candidates)
    on = kernels.enabled()
    kernels.use(on and setup.precision.device.type == "cpu")
    try:
        flops_6 = flops_of_terms(model, objective, largest, precision=setup.precision)
    finally:
        kernels.use(on)
    parts = by_part(terms_S6, flops_6)
    if isinstance(model, SequenceEncoder) and model.causal:
        parts["attention"] /= 2
    return parts


def time_evaluation(setup: Setup, model: Recommender | None = None) -> dict[str, Any]:
    """The test users ranked among the whole corpus without their seen items, all metrics included."""
    cfg, device = setup.cfg, setup.precision.device
    model = model or setup.counted_model()
    assert model.trainable_models()
    users, passes = len(held_out(setup.log, "test").rows_R), list[float]()
    forget_peak(device)
    while len(passes) < EVALUATIONS and sum(passes) < EVALUATION_SECONDS:
        began = now()
        evaluate(
            model,
            setup.log,
            "test",
            cfg=cfg.evaluation,
            max_length=cfg.model.max_length,
            precision=setup.precision,
        )
        synchronize(device)
        passes.append(now() - began)
    seconds = statistics.median(passes)
    return {
        "what": "evaluation.evaluate on test: ranks in the whole corpus, seen items removed, click metrics too",
        "seen_removed": True,
        "passes": len(passes),
        "users": users,
        "seconds": seconds,
        "users_s": users / seconds,
        "scores_s": users * setup.log.num_items / seconds,
        **peak_memory(device),
    }


def profile_step(setup: Setup) -> str:
    """torch.profiler's table of one step, its operators by their own time."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if setup.precision.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    profiler = torch.profiler.profile(activities=activities, record_shapes=True)

    def end() -> None:
        synchronize(setup.precision.device)
        profiler.stop()

    drive(setup, warm_up(setup), 1, profiler.start, end)
    by = "self_cuda_time_total" if len(activities) > 1 else "self_cpu_time_total"
    return str(profiler.key_averages().table(sort_by=by, row_limit=PROFILE_ROWS))


def forget_peak(device: torch.device) -> None:
    """Start the count of peak memory anew, where the system lets a process do so (Linux, proc(5))."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return
