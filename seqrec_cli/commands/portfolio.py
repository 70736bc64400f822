"""`seqrec train model=auto`: models that train nothing, then encoders, under one budget; a mixture or the best alone.

Every candidate has the settings it comes with; encoders are runs of their own in the folder `members`, with the data,
protocol, hardware, seed and monitored metric of this one.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.commands.measure import measure_run
from seqrec_cli.commands.restore import AS_TRAINED, restore
from seqrec_cli.commands.settle import settle
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model import ModelConfig
from seqrec_cli.config.model.auto import Config
from seqrec_cli.config.quoting import shell_command
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import dump, validate, validate_plain
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import user_training_counts, view_of
from seqrec_cli.evaluation.evaluate import evaluate
from seqrec_cli.evaluation.portfolio import find_mixture, read_pools
from seqrec_cli.metrics.table import lower_is_better
from seqrec_cli.models.auto import Model
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender
from seqrec_cli.reporting.advice import Course, advice
from seqrec_cli.reporting.environment import environment, peak_memory
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.saying import silent
from seqrec_cli.training.checkpoint import save_checkpoint
from seqrec_cli.training.closed_form import closed_form_shortage, fit_closed_form
from seqrec_cli.training.precision import Precision

KEPT_BACK = 0.2  # of the budget, for measuring the encoders, the mixture and the end
SHARED = ("dataset", "protocol", "hardware", "evaluation", "data_dir")  # what a candidate's run has of this one
GIVEN = ("evaluation.", "trainer.monitor")  # settled for the whole portfolio, not for a candidate again
MEASURED_AGAIN = 2
LEAST_MINUTES = 0.05  # an encoder is not begun with less

Train = Callable[[TrainConfig], dict[str, Any]]


@dataclass
class Portfolio:
    """What was tried so far, and when it began."""

    cfg: TrainConfig
    log: PackedLog
    precision: Precision
    folder: RunFolder
    began: float = field(default_factory=time.perf_counter)
    settings: dict[str, ModelConfig] = field(default_factory=dict)
    models: dict[str, Recommender] = field(default_factory=dict)
    tried: dict[str, dict[str, Any]] = field(default_factory=dict)
    measuring: float = 0.0  # seconds of measuring so far: the mixture of all will take as much, and again at the end

    def left(self) -> float:
        """Minutes until training must end."""
        if self.cfg.trainer.minutes is None:
            return float("inf")
        gone = time.perf_counter() - self.began + MEASURED_AGAIN * self.measuring
        return self.cfg.trainer.minutes * (1 - KEPT_BACK) - gone / 60

    def measure(self, cfg: ModelConfig, model: Recommender) -> dict[str, float]:
        """Validation metrics of a fitted model."""
        began, evaluation = time.perf_counter(), self.cfg.evaluation
        found = evaluate(model, self.log, "val", cfg=evaluation, max_length=cfg.max_length, precision=self.precision)
        self.measuring += time.perf_counter() - began
        return found.metrics

    def take(self, name: str, cfg: ModelConfig, model: Recommender, *, value: float, began: float) -> None:
        """Remember a model and its validation metric, and say so in a line."""
        monitor, seconds = self.cfg.trainer.monitor, round(time.perf_counter() - began, 1)
        self.settings[name], self.models[name] = cfg, model
        self.tried[name] = {monitor: value, "seconds": seconds}
        say(f"auto: {name}: validation {monitor} {value:.4f}, {seconds:,.1f} s")

    def leave(self, name: str, why: str) -> None:
        self.tried[name] = {"left_out": why}
        say(f"auto: {name}: left out, {why}")


def train_portfolio(cfg: TrainConfig, log: PackedLog, precision: Precision, *, train: Train) -> dict[str, Any]:
    """The run of a portfolio, whose folder is one like any run's. `train` trains one encoder as a run of its own."""
    assert isinstance(cfg.model, Config)
    label = f"auto_{cfg.dataset.name}"
    folder = RunFolder.open(cfg.resume) if cfg.resume else RunFolder.allocate(cfg.run_dir, label)
    with folder.training():
        folder.write_config(dump(cfg))
        folder.write_manifest(
            environment(precision.device)
            | {"seed": cfg.trainer.seed, "precision": precision.name}
            | {"data": {"name": cfg.dataset.name, "fingerprint": log.fingerprint, "folder": str(log.folder)}}
        )
        portfolio = Portfolio(cfg, log, precision, folder)
        if not _try_all(portfolio, train):
            say(f"stopped, nothing lost; go on with: {shell_command('train', 'resume', folder.path)}")
            say(str(folder.path))
            return {"interrupted": True, "run_dir": str(folder.path)}
        cfg, model = _mixed(portfolio)
        header = {"config": dump(cfg), "facts": log.catalog.facts(), "fingerprint": log.fingerprint}
        payload = {**header, "epoch": 1, "step": 0, "model": model.state_dict(), "metrics": {}, "trainer": None}
        for path in (folder.best, folder.last):
            save_checkpoint(path, payload)
        folder.write_config(dump(cfg))
        parameters = sum(p.numel() for p in model.parameters())
        seconds = round(time.perf_counter() - portfolio.began, 2)
        folder.write_manifest(
            {"portfolio": portfolio.tried, "parameters": parameters}
            | {"fit": {"best_epoch": 1, "epochs": 1, "steps": 0, "seconds": seconds, "stopped_by": "finished"}}
        )
        metrics = measure_run((cfg, model, log, precision), folder, test=cfg.evaluation.test, by="train", loss=None)
        wall_seconds = round(time.perf_counter() - portfolio.began, 2)
        folder.write_manifest(peak_memory(precision.device) | {"wall_seconds": wall_seconds})
        folder.mark_done()
        counted = Course(
            best_epoch=1, epochs=1, steps=0, stopped_by="finished", events=int(user_training_counts(log).sum())
        )
        for line in advice(cfg, counted, metrics=metrics, metrics_jsonl=folder.metrics_jsonl):
            say(line)
        say(str(folder.path))
        return {**metrics, "run_dir": str(folder.path)}


def _try_all(portfolio: Portfolio, train: Train) -> bool:
    """Every candidate, what is counted first; False where a training was interrupted."""
    cfg = portfolio.cfg
    assert isinstance(cfg.model, Config)
    records = {name: _record(cfg, name) for name in cfg.model.candidates}
    encoders = [name for name, record in records.items() if record.model.capabilities.family == "encoder"]
    for name in [name for name in records if name not in encoders]:
        _count(portfolio, name, records[name].model)
    for nth, name in enumerate(encoders):
        minutes = portfolio.left() / (len(encoders) - nth)
        if minutes < LEAST_MINUTES:
            portfolio.leave(name, f"trainer.minutes={cfg.trainer.minutes:g} are over")
            continue
        began = time.perf_counter()
        path = portfolio.folder.path / "members" / name
        plain = dump(settle(records[name], portfolio.log))
        plain["trainer"] |= {"minutes": None if cfg.trainer.minutes is None else minutes}
        plain |= _where(path)
        record = validate_plain("train", plain)
        assert isinstance(record, TrainConfig)
        if not RunFolder(path).is_done and train(record).get("interrupted"):
            return False
        run = restore(str(path), None, None, hardware=AS_TRAINED, tell=silent)
        value = RunFolder(path).read_metrics()["val"][cfg.trainer.monitor]
        portfolio.take(name, run.cfg.model, run.model, value=value, began=began)
    if not portfolio.models:
        raise SeqrecError("model.candidates: none of them could be tried; raise trainer.minutes or name smaller ones")
    return True


def _record(cfg: TrainConfig, name: str) -> TrainConfig:
    """A candidate's own run: the settings it comes with, all else as here; what the data settle is still open."""
    own = validate("train", compose("train", [f"model={name}"]))
    assert isinstance(own, TrainConfig)
    plain = dump(own) | {key: value for key, value in dump(cfg).items() if key in SHARED}
    plain["evaluation"] |= {"test": "none", "baselines": False}
    plain["trainer"] |= {"seed": cfg.trainer.seed, "monitor": cfg.trainer.monitor}
    plain["trainer"] |= {"max_steps": cfg.trainer.max_steps}
    plain["auto"] = {key: word for key, word in own.auto.items() if not key.startswith(GIVEN)}
    record = validate_plain("train", plain)
    assert isinstance(record, TrainConfig)
    return record


def _where(path: Any) -> dict[str, Any]:
    """A member's folder: a new one, or one that was begun and goes on."""
    if path.is_dir() and not (path / "last.pt").is_file():
        shutil.rmtree(path)
    begun = path.is_dir()
    return {"resume": str(path) if begun else None, "run_dir": None if begun else str(path)}


def _count(portfolio: Portfolio, name: str, cfg: ModelConfig) -> None:
    if name == "latest" and view_of(portfolio.log).seen == "remove":
        return  # what it says is removed
    if portfolio.models and portfolio.left() <= 0:
        portfolio.leave(name, "trainer.minutes are over")
        return
    began = time.perf_counter()
    model = build_model(cfg, portfolio.log.catalog, portfolio.cfg.trainer.seed).to(portfolio.precision.device)
    if shortage := closed_form_shortage(model, portfolio.log):
        portfolio.leave(name, shortage)
        return
    fit_closed_form(model, portfolio.log, say)
    value = portfolio.measure(cfg, model)[portfolio.cfg.trainer.monitor]
    portfolio.take(name, cfg, model, value=value, began=began)


def _mixed(portfolio: Portfolio) -> tuple[TrainConfig, Model]:
    """The mixture that validation chooses, or the best model alone."""
    cfg, log, precision = portfolio.cfg, portfolio.log, portfolio.precision
    assert isinstance(cfg.model, Config)
    monitor = cfg.trainer.monitor
    everything = _of(portfolio, dict.fromkeys(portfolio.models, 1.0))[1]
    length = cfg.model.max_length
    pools = read_pools(everything, log, requests=cfg.model.requests, max_length=length, precision=precision)
    found = find_mixture(pools)
    sign = -1 if lower_is_better(monitor) else 1
    best = max(portfolio.models, key=lambda name: sign * portfolio.tried[name][monitor])
    weights = found.weights
    mixed_cfg, model = _of(portfolio, weights)
    if len(weights) > 1:
        of_val = evaluate(model, log, "val", cfg=cfg.evaluation, max_length=length, precision=precision)
        if sign * of_val.metrics[monitor] <= sign * portfolio.tried[best][monitor]:
            weights = {best: 1.0}
    elif best not in weights:
        weights = {best: 1.0}
    if weights is not found.weights:
        mixed_cfg, model = _of(portfolio, weights)
    for name, weight in weights.items():
        portfolio.tried[name]["weight"] = weight
    told = " + ".join(f"{weight:g} {name}" for name, weight in weights.items())
    say(f"auto: kept {told} (left-out halves of validation: {found.ndcg:.4f}, the best alone {found.best_alone:.4f})")
    return mixed_cfg, model


def _of(portfolio: Portfolio, weights: dict[str, float]) -> tuple[TrainConfig, Model]:
    """The configuration and the model of these members."""
    cfg = portfolio.cfg
    settings = {"members": {name: dump(portfolio.settings[name]) for name in weights}, "weights": weights}
    mixed = validate_plain("train", {**dump(cfg), "model": dump(cfg.model) | settings})
    assert isinstance(mixed, TrainConfig)
    model = build_model(mixed.model, portfolio.log.catalog, cfg.trainer.seed).to(portfolio.precision.device)
    assert isinstance(model, Model)
    for name in weights:
        model.members[name].load_state_dict(portfolio.models[name].state_dict())
    return mixed, model
