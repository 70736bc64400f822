"""The end of a run: what validation says of the chosen weights and, where the seal may be broken, what test says.

Test is read in `_measure_test` and nowhere else while a run is trained; each time is counted.
"""

import contextlib
import hashlib
import json
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.commands.restore import AS_TRAINED, restore
from seqrec_cli.commands.training_setup import objective_for
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import dump
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.view import HeldOut
from seqrec_cli.evaluation.baselines import baselines
from seqrec_cli.evaluation.cold import cold_parts
from seqrec_cli.evaluation.compare import protocol
from seqrec_cli.evaluation.evaluate import Evaluation, evaluate
from seqrec_cli.evaluation.evaluate import measuring as evaluating
from seqrec_cli.evaluation.top_lists import not_measured
from seqrec_cli.metrics.table import LOSS
from seqrec_cli.models.contract import Recommender
from seqrec_cli.processes import ALONE, together
from seqrec_cli.reporting.lists_table import print_lists
from seqrec_cli.reporting.openings import count_opening, new_opening, opened_words
from seqrec_cli.reporting.reliability import draw_reliability
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.reporting.tables import parts_table, print_table, protocol_line, results_table
from seqrec_cli.saying import silent
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.validation_loss import ValidationLoss

Measured = tuple[TrainConfig, Recommender, PackedLog, Precision]  # a run's


def measured(of: Measured, split: HeldOut, length: int | None = None) -> Evaluation:
    """The run's model on a split, reading at most so many of the latest events (None: as many as in training)."""
    cfg, model, log, precision = of
    length = cfg.model.max_length if length is None else length
    with in_step(model):
        return evaluate(model, log, split, cfg=cfg.evaluation, max_length=length, precision=precision)


def in_step(model: Recommender) -> AbstractContextManager[object]:
    """Where tables are sharded, all processes go through the same requests, for they look up and score together."""
    return contextlib.nullcontext() if model.shard is None else together(ALONE)


def rules_of(of: Measured, split: HeldOut) -> dict[str, Any]:
    """The protocol that the run's numbers of a split are obtained by."""
    cfg, model, log, _ = of
    return protocol(
        log,
        split,
        max_length=cfg.model.max_length,
        monitor=cfg.trainer.monitor,
        sees_target_time=model.sees_target_time,
        ranked_users=cfg.evaluation.ranked_users,
    )


def validation_loss(of: Measured) -> ValidationLoss | None:
    """The loss of the run's objective on validation; None for a model in closed form."""
    cfg, model, log, precision = of
    if not model.trainable_models():
        return None
    return ValidationLoss(cfg, objective_for(cfg, log, precision.device), log, device=precision.device)


def validated(of: Measured, loss: ValidationLoss | None) -> Evaluation:
    """The validation split's metrics, and the loss among them where there is one."""
    _, model, _, precision = of
    evaluation = measured(of, "val")
    if loss is None:
        return evaluation
    with in_step(model), evaluating(model, precision):
        value = loss(model, evaluation.clicks.labels_N, evaluation.clicks.logits_N)
    return evaluation if value is None else replace(evaluation, metrics={**evaluation.metrics, LOSS: value})


def measure_run(of: Measured, folder: RunFolder, *, test: str, by: str, loss: ValidationLoss | None) -> dict[str, Any]:
    """Measure the chosen weights and write numbers, ranks and plots: validation, then test unless it stays sealed.

    `test` is `evaluation.test`: in a run of its own, or in each job of a sweep, `once` and `all` read it.
    """
    validation = validated(of, loss)
    keep(validation, folder, "val")
    found = {"val": validation.metrics, "intervals": {"val": validation.intervals}}
    found["parts"] = {"val": cold_parts(validation, of[2])}
    if test in ("once", "all"):
        return _measure_test(of, folder, found, by=by)
    of_baselines = _baselines(of, "val")
    # The protocol is that of test in every run, so that sealed and opened ones compare by validation.
    metrics = {**found, "baselines_val": of_baselines, "protocol": rules_of(of, "test")}
    folder.write_metrics(metrics)
    _print(of, metrics, "val", of_baselines=of_baselines, seal=f"test stays sealed (evaluation.test={test})")
    return metrics


def assist_measuring(of: Measured, *, test: str, loss: ValidationLoss | None) -> None:
    """What every process but the first does of `measure_run`: its share of the same evaluations. The baselines are
    counted by the first alone."""
    validated(of, loss)
    if test in ("once", "all"):
        measured(of, "test")


def open_run(path: Path, by: str, *, archive: str | None = None, data_dir: str | None = None) -> dict[str, Any]:
    """Break the seal of a finished run: its best weights, from its checkpoint, on test. What it holds is completed."""
    run, folder = restore(str(path), archive, data_dir, hardware=AS_TRAINED, tell=silent), RunFolder.open(path)
    found = {name: value for name, value in folder.read_metrics().items() if name in ("val", "intervals", "parts")}
    return _measure_test((run.cfg, run.model, run.log, run.precision), folder, found, by=by)


def _measure_test(of: Measured, folder: RunFolder, found: dict[str, Any], *, by: str) -> dict[str, Any]:
    cfg, _, log, _ = of
    times = count_opening(log, by, opening=opening_of(cfg, folder), run=folder)
    evaluation = measured(of, "test")
    keep(evaluation, folder, "test")
    intervals = {**found.get("intervals", {}), "test": evaluation.intervals}
    parts = {**found.get("parts", {}), "test": cold_parts(evaluation, log)}
    metrics = {**found, "test": evaluation.metrics, "intervals": intervals, "parts": parts}
    metrics |= {"baselines": _baselines(of, "test"), "protocol": rules_of(of, "test"), "test_opened": times}
    folder.write_metrics(metrics)
    _print(of, metrics, "test", of_baselines=metrics["baselines"], seal=opened_words(times))
    return metrics


def opening_of(cfg: TrainConfig, folder: RunFolder) -> str:
    """An opening's name: one for all seeds of the configuration where the run is one of several, else a new one."""
    parent = RunFolder(folder.path.resolve().parent)
    if "seeds" not in parent.read_manifest():
        return new_opening()
    plain = dump(cfg) | {"run_dir": None, "resume": None}
    plain["trainer"] |= {"seed": None, "seeds": None}
    plain["evaluation"] |= {"test": None}
    text = json.dumps([str(parent.path), plain], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def keep(evaluation: Evaluation, folder: RunFolder, split: str) -> None:
    """Write what an evaluation's numbers were computed from, and the reliability plot."""
    evaluation.save_ranks(folder.ranks(split))
    evaluation.clicks.save(folder.clicks(split))
    draw_reliability(folder.reliability_png(split), evaluation.reliability)


def _baselines(of: Measured, split: HeldOut) -> dict[str, dict[str, float]]:
    cfg, _, log, precision = of
    if not cfg.evaluation.baselines:
        return {}
    length = cfg.model.max_length
    with together(ALONE):
        return baselines(log, split, cfg=cfg.evaluation, precision=precision, max_length=length, tell=say)


def _print(
    of: Measured, metrics: dict[str, Any], split: HeldOut, *, of_baselines: dict[str, dict[str, float]], seal: str
) -> None:
    """The tables of a split."""
    cfg, _, log, _ = of
    print_table(
        results_table(
            cfg.model.name,
            metrics[split],
            of_baselines,
            title=f"{split} metrics",
            protocol=f"{protocol_line(rules_of(of, split))}; {seal}",
            intervals=metrics["intervals"].get(split, {}),
            validation=metrics["val"] if split == "test" else None,
        )
    )
    print_parts(metrics, split)
    print_lists(cfg.model.name, metrics[split], of_baselines, absent=not_measured(log))


def print_parts(metrics: dict[str, Any], split: HeldOut) -> None:
    """Cold users and targets next to the others, where there are any."""
    if metrics["parts"][split]:
        print_table(parts_table(metrics["parts"][split], f"{split} metrics of cold and warm parts"))
