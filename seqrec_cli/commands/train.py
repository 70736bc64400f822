"""`seqrec train`: data, model, objective, fit, choose on validation, measure once on test (sealed until then).

Read `main` from top to bottom to see the order of things.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

from seqrec_cli import kernels
from seqrec_cli.commands.beginning_anew import PROCESSES, going_on, who_trains
from seqrec_cli.commands.console import say
from seqrec_cli.commands.launch import launch, processes_to_start
from seqrec_cli.commands.measure import measure_run, validated
from seqrec_cli.commands.portfolio import train_portfolio
from seqrec_cli.commands.ranks import sharing
from seqrec_cli.commands.seeds import holds_seeds, train_seeds
from seqrec_cli.commands.settle import settle
from seqrec_cli.commands.teaching import be_taught, teacher_is_there
from seqrec_cli.commands.training_setup import fresh_model, objective_for, refuse_too_large, training_rows
from seqrec_cli.commands.training_share import handed_out, refuse_other_data
from seqrec_cli.commands.vectors_of_run import give_vectors
from seqrec_cli.commands.warm import warm_start
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.quoting import shell_command
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import dump
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.soft_targets import SoftTargets
from seqrec_cli.data.splits import user_training_counts
from seqrec_cli.evaluation.top_lists import monitor_is_measured
from seqrec_cli.metrics.table import LOSS
from seqrec_cli.models.contract import Recommender
from seqrec_cli.models.features import unread
from seqrec_cli.models.layers.sharded_table import count_parameters
from seqrec_cli.processes import ALONE, current, together
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.reporting.advice import Course, advice
from seqrec_cli.reporting.curves import draw_curves, rising_loss
from seqrec_cli.reporting.environment import environment, peak_memory
from seqrec_cli.reporting.listener import TrainingListener, Watch
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.training.checkpoint import is_readable, load_checkpoint, save_checkpoint, with_whole_tables
from seqrec_cli.training.closed_form import fit_closed_form
from seqrec_cli.training.fitting import FitResult
from seqrec_cli.training.loop import fit
from seqrec_cli.training.memory import memory_warning
from seqrec_cli.training.precision import Precision, resolve_precision
from seqrec_cli.training.shared_steps import share_of
from seqrec_cli.training.validation_loss import ValidationLoss


def main(cfg: TrainConfig, watch: Watch | None = None, *, advised: bool = True) -> dict[str, Any]:
    """One run, or one a seed. Returns what `metrics.json` holds and the run's folder.

    `watch` may end a run after a validation: its curve is kept, and nothing is measured. Without `advised` nothing is
    suggested at the end: a candidate's limits are its portfolio's, which does so itself.
    """
    began = time.perf_counter()
    if (count := processes_to_start(cfg.hardware)) > 1:
        return launch(cfg, count)
    cfg = going_on(cfg)
    precision = resolve_precision(cfg.hardware)  # first: a device that is not there is refused before data is built
    teacher_is_there(cfg)
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), say), cfg.protocol, say)
    cfg = settle(cfg, log)
    if cfg.trainer.seeds > 1 or holds_seeds(cfg.resume):
        return train_seeds(cfg, main)
    if cfg.trainer.monitor != LOSS:
        monitor_is_measured(cfg.trainer.monitor, log, cfg.evaluation)
    if cfg.model.name == "auto":
        return train_portfolio(cfg, log, precision, train=partial(main, advised=False))
    refuse_too_large(cfg, log, precision.device)  # before anything is allocated, or a folder made
    soft = be_taught(cfg, log, precision)
    with sharing(cfg):
        return _train(cfg, log, precision, soft=soft, watch=watch, advised=advised, began=began)


def _train(
    cfg: TrainConfig,
    log: PackedLog,
    precision: Precision,
    *,
    soft: SoftTargets | None,
    watch: Watch | None,
    advised: bool,
    began: float,
) -> dict[str, Any]:
    """One run of one model; of several processes the first. What the others do is in `training_share.py`."""
    refuse_other_data(log)
    model = fresh_model(cfg, log, precision.device)
    give_vectors(model, cfg, log)
    given = cfg.dataset.features or cfg.dataset.item_vectors or cfg.dataset.item_text
    if given:  # with the log: said where they have no effect
        for line in unread(cfg.model, log.catalog):
            say(line)
    if cfg.hardware.table == "sharded" and model.shard is None:
        say("hardware.table=sharded: this process is alone and holds the tables whole; see hardware.processes")
    objective = objective_for(cfg, log, precision.device)
    rows = None
    if model.trainable_models():
        rows = training_rows(cfg, objective, log, device=precision.device, soft=soft)

    label = f"{cfg.model.name}_{cfg.dataset.name}"
    folder = RunFolder.open(cfg.resume) if cfg.resume else RunFolder.allocate(cfg.run_dir, label)
    with folder.training():
        folder.write_manifest({PROCESSES: who_trains(folder.read_manifest())})
        resume_from = _last_checkpoint(folder, log, whole=model.shard is None) if cfg.resume else None
        started = warm_start(model, cfg, log) if cfg.start_from and resume_from is None else {}
        _, resume_from = handed_out(model, folder.path, resume_from)
        if resume_from is None:
            folder.write_config(dump(cfg))
        else:  # what has trained stays written
            folder.write_stretch(dump(cfg), resume_from["step"])
            if note := folder.mend_metrics():
                say(note)
        parameters = count_parameters(model)
        folder.write_manifest(
            environment(precision.device)
            | {"seed": cfg.trainer.seed, "precision": precision.name, "parameters": parameters}
            | {"data": {"name": cfg.dataset.name, "fingerprint": log.fingerprint, "folder": str(log.folder)}}
            | started
        )
        say(
            f"{label}: {parameters:,} parameters, {precision.name} on {precision.device}, {log.num_users:,} users, "
            f"{log.num_items:,} items"
        )

        measured = cfg, model, log, precision
        loss = ValidationLoss(cfg, objective, log, device=precision.device) if model.trainable_models() else None

        def validate() -> dict[str, float]:
            return validated(measured, loss).metrics

        header = {"config": dump(cfg), "facts": log.catalog.facts(), "fingerprint": log.fingerprint}
        if rows is None:
            fitted = _fit_closed_form_alone(model, log, header, folder=folder)
        else:
            if resume_from is None:
                fit_closed_form(model, log, say)
            largest = share_of(rows.largest(), current())
            with together(ALONE):
                warning = None
                if largest is not None:
                    warning = memory_warning(model, objective, largest, precision=precision, cfg=cfg)
            if warning is not None:
                say(warning)
            listener = TrainingListener(folder, cfg.trainer.monitor, rows.steps, watch=watch)
            fitted = fit(
                model,
                objective,
                rows,
                cfg=cfg.trainer,
                precision=precision,
                validate=validate,
                header=header,
                folder=folder.path,
                listener=listener,
                resume_from=resume_from,
            )
        wall_seconds = round(time.perf_counter() - began, 2)
        folder.write_manifest({"fit": _summary(fitted), "kernels": kernels.ran(), "wall_seconds": wall_seconds})
        if fitted.reason == "interrupted":
            again = shell_command("train", "resume", folder.path)
            say(f"stopped at step {fitted.steps}, nothing lost; go on with: {again}")
            say(str(folder.path))
            return {"interrupted": True, "run_dir": str(folder.path)}

        if fitted.reason == "pruned":
            draw_curves(folder.metrics_jsonl, folder.curves_png, cfg.trainer.monitor)
            say(f"ended early, after epoch {fitted.epochs}: {folder.path}")
            return {"pruned": True, "run_dir": str(folder.path)}

        metrics = measure_run(measured, folder, test=cfg.evaluation.test, by="train", loss=loss)
        draw_curves(folder.metrics_jsonl, folder.curves_png, cfg.trainer.monitor)
        wall_seconds = round(time.perf_counter() - began, 2)
        folder.write_manifest(peak_memory(precision.device) | {"wall_seconds": wall_seconds})
        if apart := with_whole_tables(folder.best):
            say(apart)
        folder.mark_done()
        if note := rising_loss(folder.metrics_jsonl, cfg.trainer.monitor):
            say(note)
        events = int(user_training_counts(log).sum())
        course = Course(fitted.best_epoch, fitted.epochs, fitted.steps, fitted.reason, events)
        if advised:
            for line in advice(cfg, course, metrics=metrics, metrics_jsonl=folder.metrics_jsonl):
                say(line)
        say(f"best epoch {fitted.best_epoch} of {fitted.epochs}, {fitted.seconds:.1f} s of training")
        say(str(folder.path))
        return {**metrics, "run_dir": str(folder.path)}


def _last_checkpoint(folder: RunFolder, log: PackedLog, *, whole: bool) -> dict[str, Any]:
    try:
        payload = load_checkpoint(folder.last, whole=whole)
    except SeqrecError as error:
        if not folder.last.is_file() and not folder.best.is_file():
            raise SeqrecError(
                f"resume={folder.path}: the run has no checkpoint yet; delete the folder, or start anew without resume"
            ) from error
        if not is_readable(folder.best):
            raise SeqrecError(
                f"{folder.last} and {folder.best.name} are damaged or gone; train anew in another run_dir"
            ) from error
        again = shell_command("train", "start_from", folder.path)
        raise SeqrecError(
            f"{folder.last} is {'damaged' if folder.last.is_file() else 'gone'}, so the run cannot go on where it "
            f"stopped; {again} begins a new run with its best weights, "
            f"{shell_command('evaluate', 'ckpt', folder.path)} measures them"
        ) from error
    if (payload["trainer"] or {}).get("stopping", {}).get("best_epoch"):
        try:
            load_checkpoint(folder.best, whole=whole)  # which the run ends with; told now, not after hours
        except SeqrecError as error:
            raise SeqrecError(
                f"{folder.best} is damaged or gone, and the run's best weights with it; its last ones are whole: "
                f"{shell_command('evaluate', 'ckpt', folder.last)} measures them, or train anew in another run_dir"
            ) from error
    if not log.fits(payload["fingerprint"]):
        raise SeqrecError(f"resume={folder.path}: the data differ from the run's (another file or other settings)")
    return payload


def _fit_closed_form_alone(
    model: Recommender, log: PackedLog, header: dict[str, Any], *, folder: RunFolder
) -> FitResult:
    """The whole training of a model that takes no steps, with the checkpoints of any other run."""
    began = time.perf_counter()
    fit_closed_form(model, log, say)
    payload = {**header, "epoch": 1, "step": 0, "model": model.state_dict(), "metrics": {}, "trainer": None}
    for path in (folder.best, folder.last):
        save_checkpoint(path, payload)
    return FitResult(
        best_metrics={}, best_epoch=1, epochs=1, steps=0, seconds=time.perf_counter() - began, reason="finished"
    )


def _summary(fitted: FitResult) -> dict[str, Any]:
    return {
        "best_epoch": fitted.best_epoch,
        "epochs": fitted.epochs,
        "steps": fitted.steps,
        "seconds": round(fitted.seconds, 2),
        "stopped_by": fitted.reason,
    }
