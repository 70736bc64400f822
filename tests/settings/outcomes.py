"""What a run of `seqrec train` comes to, part by part in the order in which a run makes them, each as a fingerprint.

A run is the command itself (`commands.train.main`) on a small log: nothing is left out of it but pictures, TensorBoard
and the facts about the machine. Two runs that differ in a setting are alike in every part before the one it acts on.
"""

import contextlib
import io
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from seqrec_cli import kernels
from seqrec_cli.commands import train, training_setup
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.evaluation import evaluate, ranks
from seqrec_cli.objectives import contract as objectives
from seqrec_cli.objectives import losses, soft_losses
from seqrec_cli.training.checkpoint import load_checkpoint
from seqrec_cli.training.fitting import Listener
from tests.settings.composed import record
from tests.settings.fingerprints import distinct, fingerprint, rounded

PARTS = {
    "log": "events, times, ratings, attributes",
    "held": "where training ends, and what validation and test ask",
    "candidates": "labelled candidates, and what targets are ranked among",
    "start": "the model before its first step",
    "rows": "the batches of two epochs, in order",
    "way": "device, number format, threads, kernels, chunks of a softmax: the same numbers, but for their rounding",
    "seeds": "the random state of every step",
    "rates": "the learning rate of every step",
    "steps": "the weights after each step",
    "blocks": "how much an evaluation works on at once, and how long the histories are that it reads",
    "validated": "what is measured at every validation",
    "chosen": "the weights that are kept, and the epoch they are of",
    "measured": "the numbers of metrics.json, and the protocol they are said to be of",
}
Outcome = dict[str, str]
_Scorer = ranks.CorpusScorer


class _EnoughError(Exception):
    """The run has come as far as it is to be looked at."""


class _Recorder(Listener):
    """Hears of steps and validations, as the command's own listener does, and keeps what was said."""

    def __init__(self, folder: Any, monitor: str, steps_per_epoch: int, *, watch: Any = None) -> None:
        assert watch is None  # a study's, not a run's own
        self.folder = folder
        self.seeds: list[int] = []
        self.rates: list[float] = []
        self.weights: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.ways: list[Any] = []  # of all that is worked with
        self.model: Any = None
        self.total_steps = 0
        self.after_last_step: Callable[[], None] = lambda: None

    def on_start(self, total_steps: int, first_step: int) -> None:
        self.total_steps = total_steps

    def on_step(self, step: int, loss: float | None, *, lr: float, targets: int) -> None:
        self.seeds.append(torch.initial_seed())
        self.rates.append(lr)
        self.weights.append(fingerprint(dict(self.model.named_parameters())))
        self.ways.append((torch.get_num_threads(), kernels.registry.enabled()))
        if step == self.total_steps:
            self.after_last_step()

    def on_validation(self, row: dict[str, Any]) -> None:
        self.folder.append_metrics(row)
        self.rows.append({name: rounded(value) for name, value in row.items() if name != "seconds"})


class _Run:
    """One run, listened to."""

    def __init__(self, until: str) -> None:
        self.until = until
        self.found: Outcome = {}
        self.ways: list[Any] = []
        self.blocks: list[Any] = []
        self.listener: _Recorder | None = None

    def enough(self, part: str) -> None:
        """Stop if the run is to be looked at as far as this part, or an earlier one."""
        if list(PARTS).index(self.until) <= list(PARTS).index(part):
            raise _EnoughError

    def view(self, make: Callable[..., PackedLog]) -> Callable[..., PackedLog]:
        def made(*args: Any) -> PackedLog:
            log = make(*args)
            view = log.view
            assert view is not None
            content = {name: value for name, value in vars(log).items() if name not in ("folder", "manifest", "view")}
            self.found["log"] = fingerprint(content)
            self.found["held"] = fingerprint([view.train_U, view.val, view.test, view.seen])
            self.found["candidates"] = fingerprint([view.clicks, view.candidates])
            self.enough("candidates")
            return log

        return made

    def start(self, make: Callable[..., torch.nn.Module]) -> Callable[..., torch.nn.Module]:
        def made(*args: Any) -> torch.nn.Module:
            model = make(*args)
            self.found["start"] = fingerprint([list(model.named_parameters()), list(model.named_buffers())])
            self.enough("start")
            return model

        return made

    def fit(self, fit: Callable[..., Any]) -> Callable[..., Any]:
        def made(model: Any, objective: Any, rows: Any, **named: Any) -> Any:
            two = [batch for epoch in (0, 1) for batch in rows.epoch(epoch)]
            self.found["rows"] = fingerprint([_filled(batch) for batch in two])
            self.enough("rows")
            self.listener = named["listener"]
            assert self.listener is not None
            self.listener.model, self.listener.after_last_step = model, self.stepped
            self.ways += [
                named["precision"].name,
                str(named["precision"].device),
                _is_sparse(model),
                hasattr(model, "is_compiled"),
            ]
            fitted = fit(model, objective, rows, **named)
            self.heard()
            self.found |= {"blocks": fingerprint(distinct(self.blocks)), "validated": fingerprint(self.listener.rows)}
            self.enough("validated")
            return fitted

        return made

    def stepped(self) -> None:
        self.heard()
        self.enough("steps")

    def heard(self) -> None:
        """What the listener was told."""
        told = self.listener
        assert told is not None
        self.found |= {
            "way": fingerprint(distinct([*self.ways, *told.ways])),
            "seeds": fingerprint(told.seeds),
            "rates": fingerprint(told.rates),
            "steps": fingerprint(told.weights),
        }

    def scorer(self, model: Any, rows: int) -> _Scorer:
        self.blocks.append(rows)
        return _Scorer(model, rows)

    def noted(self, function: Callable[..., Any], *names: str) -> Callable[..., Any]:
        """The same function; what it is told by these names, or without a name, is kept."""

        def called(*args: Any, **named: Any) -> Any:
            if names:
                self.blocks.append([named[name] for name in names])
            else:
                self.ways.append(args)
            return function(*args, **named)

        return called


def _filled(batch: Batch) -> dict[str, Any]:
    return {name: value for name, value in vars(batch).items() if value is not None}


def _is_sparse(model: torch.nn.Module) -> list[bool]:
    return [module.sparse for module in model.modules() if isinstance(module, torch.nn.Embedding)]


def _mark_compiled(model: Any, device: torch.device, *, last: bool, mode: object) -> None:
    """Instead of torch's compiler, which takes long."""
    model.is_compiled = True


FOLDER = tempfile.TemporaryDirectory()
_NUMBERS = itertools.count()
_KEPT: dict[tuple[tuple[str, ...], str | None], tuple[str, Outcome]] = {}


def outcome(overrides: tuple[str, ...], until: str, change: str | None = None) -> Outcome:
    """The parts of the run with these overrides, and one more, as far as `until` at least; a run is kept."""
    kept = _KEPT.get((overrides, change))
    if kept is None or list(PARTS).index(kept[0]) < list(PARTS).index(until):
        _KEPT[overrides, change] = kept = until, _outcome(overrides, until, change)
    return kept[1]


def run_of(overrides: tuple[str, ...]) -> Path:
    """The folder of a whole run with these overrides."""
    before = set(Path(FOLDER.name).glob("run*"))
    _outcome(overrides, "measured", None)
    (folder,) = set(Path(FOLDER.name).glob("run*")) - before
    return folder


def _outcome(overrides: tuple[str, ...], until: str, change: str | None) -> Outcome:
    run, folder = _Run(until), Path(FOLDER.name)
    run_dir = folder / f"run{next(_NUMBERS)}"
    cfg = record(overrides, change, {"data_dir": str(folder / "data"), "run_dir": str(run_dir)})
    threads = torch.get_num_threads()
    try:
        with _listened_to(run), contextlib.redirect_stdout(io.StringIO()):
            result = train.main(cfg)
    except _EnoughError:
        return run.found
    finally:
        torch.set_num_threads(threads)
        kernels.registry.use(True)
    path = Path(result["run_dir"])
    best = load_checkpoint(path / "best.pt")
    if run.listener is None:  # fitted in closed form
        run.found |= {"blocks": fingerprint(distinct(run.blocks)), "steps": fingerprint(best["model"])}
    run.found["chosen"] = fingerprint([best["epoch"], best["model"]])
    metrics = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
    metrics.pop("test_opened", None)  # counts every run of the tests
    run.found["measured"] = fingerprint(metrics)
    return run.found


@contextlib.contextmanager
def _listened_to(run: _Run) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, replacement in (
            ("environment", lambda device: {}),
            ("draw_curves", lambda *args: None),
            ("TrainingListener", _Recorder),
            ("with_view", run.view(train.with_view)),
            ("fresh_model", run.start(train.fresh_model)),
            ("fit", run.fit(train.fit)),
        ):
            stack.enter_context(mock.patch.object(train, name, replacement))
        for name in (
            "commands.measure.draw_reliability",
            "reporting.run_folder.RunFolder.write_config",
        ):
            stack.enter_context(mock.patch(f"seqrec_cli.{name}"))
        stack.enter_context(
            mock.patch.object(ranks, "target_batches", run.noted(ranks.target_batches, "max_length", "batch_size"))
        )
        stack.enter_context(
            mock.patch.object(evaluate, "labelled_batches", run.noted(evaluate.labelled_batches, "batch_size"))
        )
        stack.enter_context(mock.patch.object(ranks, "CorpusScorer", run.scorer))
        stack.enter_context(mock.patch.object(training_setup, "compile_model", _mark_compiled))
        for module in (losses, objectives, soft_losses):
            stack.enter_context(mock.patch.object(module, "chunk_rows", run.noted(losses.chunk_rows)))
        yield


def first_difference(one: Outcome, other: Outcome, until: str) -> str | None:
    """The first part, as far as `until`, that is not the same in both."""
    parts = list(PARTS)[: list(PARTS).index(until) + 1]
    return next((part for part in parts if one.get(part) != other.get(part)), None)
