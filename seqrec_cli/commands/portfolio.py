"""`seqrec train model=auto`: models that train nothing, then encoders, under one budget; a mixture or the best alone.

Every candidate has the settings it comes with; encoders are runs of their own in the folder `members`, with the data,
protocol, hardware, seed and monitored metric of this one.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.commands.measure import measure_run
from seqrec_cli.commands.minutes import ENOUGH, LEAST_SECONDS, MOST_FOR_COUNTING, Minutes, needed_seconds, shared
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
from seqrec_cli.evaluation.evaluate import evaluate, measuring, rank
from seqrec_cli.evaluation.portfolio import find_mixture, read_pools
from seqrec_cli.metrics.kinds import RankMetric
from seqrec_cli.metrics.table import compute_metrics, lower_is_better, parse_metric
from seqrec_cli.models.auto import Model
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender
from seqrec_cli.reporting.advice import Course, advice
from seqrec_cli.reporting.environment import environment, peak_memory
from seqrec_cli.reporting.plan_table import in_time
from seqrec_cli.reporting.run_folder import MEMBERS, RunFolder
from seqrec_cli.saying import silent
from seqrec_cli.training.checkpoint import save_checkpoint
from seqrec_cli.training.closed_form import closed_form_seconds, closed_form_shortage, fit_closed_form
from seqrec_cli.training.precision import Precision

SHARED = ("dataset", "protocol", "hardware", "evaluation", "data_dir")  # what a candidate's run has of this one
GIVEN = ("evaluation.", "trainer.monitor")  # settled for the whole portfolio, not for a candidate again

Train = Callable[[TrainConfig], dict[str, Any]]


@dataclass
class Portfolio:
    """What was tried so far, and the time that is left."""

    cfg: TrainConfig
    log: PackedLog
    precision: Precision
    folder: RunFolder
    minutes: Minutes = field(init=False)
    settings: dict[str, ModelConfig] = field(default_factory=dict)
    models: dict[str, Recommender] = field(default_factory=dict)
    tried: dict[str, dict[str, Any]] = field(default_factory=dict)
    late: int = 0  # candidates that had no time
    mixture: dict[str, float] = field(default_factory=dict)  # what left-out requests said

    def __post_init__(self) -> None:
        self.minutes = Minutes(self.cfg.trainer.minutes, opened=self.cfg.evaluation.test in ("once", "all"))

    def measure(self, cfg: ModelConfig, model: Recommender) -> dict[str, float]:
        """Validation metrics of a fitted model."""
        began, evaluation = time.perf_counter(), self.cfg.evaluation
        found = evaluate(model, self.log, "val", cfg=evaluation, max_length=cfg.max_length, precision=self.precision)
        self.minutes.measured_in(time.perf_counter() - began)
        return found.metrics

    def take(self, name: str, cfg: ModelConfig, model: Recommender, *, value: float, began: float) -> None:
        """Remember a model and its validation metric, and say so in a line."""
        monitor, seconds = self.cfg.trainer.monitor, round(time.perf_counter() - began, 1)
        self.settings[name], self.models[name] = cfg, model
        self.tried[name] = {monitor: value, "seconds": seconds}
        say(f"auto: {name}: validation {monitor} {value:.4f}, {seconds:,.1f} s")

    def leave(self, name: str, why: str, *, late: bool = False) -> None:
        self.late += late
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
        seconds = round(time.perf_counter() - portfolio.minutes.began, 2)
        folder.write_manifest(
            {"portfolio": portfolio.tried, "mixture": portfolio.mixture, "parameters": parameters}
            | {"fit": {"best_epoch": 1, "epochs": 1, "steps": 0, "seconds": seconds, "stopped_by": "finished"}}
        )
        metrics = measure_run((cfg, model, log, precision), folder, test=cfg.evaluation.test, by="train", loss=None)
        wall_seconds = round(time.perf_counter() - portfolio.minutes.began, 2)
        folder.write_manifest(peak_memory(precision.device) | {"wall_seconds": wall_seconds})
        folder.mark_done()
        events = int(user_training_counts(log).sum())
        counted = Course(best_epoch=1, epochs=1, steps=0, stopped_by="finished", events=events, untried=portfolio.late)
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
    needs = _needs(portfolio, {name: _settled(portfolio, records[name]) for name in encoders})
    for nth, (name, (record, need)) in enumerate(needs.items()):
        left = portfolio.minutes.left(len(needs) - nth)
        if left < LEAST_SECONDS:
            portfolio.leave(name, _over(cfg), late=True)
        elif nth and left < ENOUGH * need:  # the first one may learn a little where nothing else would be done
            portfolio.leave(name, f"its steps take about {in_time(need)}, and {in_time(left)} are left", late=True)
        elif not _trained(portfolio, record, shared([need for _, need in needs.values()][nth:], left), train=train):
            return False
    if not portfolio.models:
        raise SeqrecError("model.candidates: none of them could be tried; raise trainer.minutes or name smaller ones")
    return True


def _settled(portfolio: Portfolio, record: TrainConfig) -> TrainConfig:
    """Numbers alone, told under the candidate's name."""
    return settle(record, portfolio.log, tell=lambda line: say(line.replace("auto:", f"auto: {record.model.name}:", 1)))


def _needs(portfolio: Portfolio, records: dict[str, TrainConfig]) -> dict[str, tuple[TrainConfig, float]]:
    """The encoders that can be trained, and about how many seconds each needs where time is limited."""
    found: dict[str, tuple[TrainConfig, float]] = {}
    for name, record in records.items():
        if portfolio.minutes.left(len(records)) < LEAST_SECONDS:
            portfolio.leave(name, _over(portfolio.cfg), late=True)
        elif portfolio.cfg.trainer.minutes is None or RunFolder(_path(portfolio, name)).is_done:
            found[name] = record, 0.0
        else:
            try:
                found[name] = record, needed_seconds(record, portfolio.log, portfolio.precision)
            except SeqrecError as error:
                portfolio.leave(name, str(error))
    return found


def _over(cfg: TrainConfig) -> str:
    return f"trainer.minutes={cfg.trainer.minutes:g} are over"


def _path(portfolio: Portfolio, name: str) -> Path:
    return portfolio.folder.path / MEMBERS / name


def _trained(portfolio: Portfolio, record: TrainConfig, seconds: float, *, train: Train) -> bool:
    """Train an encoder as a run of its own, or find it trained; False where that was interrupted. One that cannot be
    trained is left out."""
    name, began = record.model.name, time.perf_counter()
    path, plain = _path(portfolio, name), dump(record)
    plain["trainer"] |= {"minutes": None if portfolio.cfg.trainer.minutes is None else seconds / 60}
    plain |= _where(path)
    record = validate_plain("train", plain)  # type: ignore[assignment]
    try:
        if not RunFolder(path).is_done and train(record).get("interrupted"):
            return False
    except SeqrecError as error:
        portfolio.leave(name, str(error))
        return True
    run = restore(str(path), None, None, hardware=AS_TRAINED, tell=silent)
    value = RunFolder(path).read_metrics()["val"][portfolio.cfg.trainer.monitor]
    portfolio.take(name, run.cfg.model, run.model, value=value, began=began)
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
    if portfolio.models and portfolio.minutes.over:
        portfolio.leave(name, _over(portfolio.cfg), late=True)
        return
    began = time.perf_counter()
    model = build_model(cfg, portfolio.log.catalog, portfolio.cfg.trainer.seed).to(portfolio.precision.device)
    if shortage := closed_form_shortage(model, portfolio.log):
        portfolio.leave(name, shortage)
        return
    if model.closed_form_flops(len(portfolio.log.items_N)):  # long work is foreseen, and cannot be stopped half-way
        seconds, left = closed_form_seconds(model, portfolio.log), portfolio.minutes.left(0)
        if portfolio.models and seconds > MOST_FOR_COUNTING * left:
            has = f"trainer.minutes={portfolio.cfg.trainer.minutes:g} leave {in_time(max(left, 0))}"
            portfolio.leave(name, f"fitting it takes about {in_time(seconds)}, {has} for all that follows", late=True)
            return
        fit_closed_form(model, portfolio.log, say)
    else:
        fit_closed_form(model, portfolio.log, say)
        portfolio.minutes.counting += time.perf_counter() - began
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
        if sign * _monitored(portfolio, mixed_cfg, model) <= sign * portfolio.tried[best][monitor]:
            weights = {best: 1.0}
    elif best not in weights:
        weights = {best: 1.0}
    if weights is not found.weights:
        mixed_cfg, model = _of(portfolio, weights)
    for name, weight in weights.items():
        portfolio.tried[name]["weight"] = weight
    told = " + ".join(f"{weight:g} {name}" for name, weight in weights.items())
    portfolio.mixture = {"left_out_ndcg@10": found.ndcg, "best_alone_ndcg@10": found.best_alone}
    say(f"auto: kept {told} (left-out halves of validation: {found.ndcg:.4f}, the best alone {found.best_alone:.4f})")
    return mixed_cfg, model


def _monitored(portfolio: Portfolio, cfg: TrainConfig, model: Model) -> float:
    """The metric that chooses, of validation; what else a run is measured by can wait until the choice is made."""
    monitor, length, precision = cfg.trainer.monitor, cfg.model.max_length, portfolio.precision
    if not isinstance(parse_metric(monitor)[0], RankMetric):
        return portfolio.measure(cfg.model, model)[monitor]
    with measuring(model, precision):
        ranks = rank(model, portfolio.log, "val", cfg=cfg.evaluation, max_length=length, device=precision.device)
    return compute_metrics(cfg.evaluation.cutoffs, ranks=ranks)[monitor]


def _of(portfolio: Portfolio, weights: dict[str, float]) -> tuple[TrainConfig, Model]:
    """The configuration and the model of these members."""
    cfg = portfolio.cfg
    settings = {"members": {name: dump(portfolio.settings[name]) for name in weights}, "weights": weights}
    mixed = validate_plain("train", {**dump(cfg), "model": dump(cfg.model) | settings})
    assert isinstance(mixed, TrainConfig)
    model = build_model(mixed.model, portfolio.log.catalog, cfg.trainer.seed).to(portfolio.precision.device)
    assert isinstance(model, Model)
    for name in weights:
        model.members[name] = portfolio.models[name]  # not a copy: tables of large catalogues are large
    return mixed, model
