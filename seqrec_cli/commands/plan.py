"""`seqrec plan`: what `seqrec train` with the same settings would take, before it is run.

Parameters and fixed memory come from a model without storage, FLOPs and activations from a few rows, time from two
seconds of real steps. Where memory will not do, a WARNING line says so, nothing large is tried, and the exit code is
still 0: the question was answered. Writes nothing but the preprocessed data.
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seqrec_cli.commands.console import say
from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.sample import evenly_by_length, of_users
from seqrec_cli.data.splits import held_out, subsample
from seqrec_cli.evaluation.evaluate import evaluate
from seqrec_cli.models.contract import Recommender
from seqrec_cli.reporting.plan_table import plan_table
from seqrec_cli.reporting.tables import print_table
from seqrec_cli.training.flops import Shapes, step_flops
from seqrec_cli.training.loop import count_targets
from seqrec_cli.training.memory import (
    StepMemory,
    at_once,
    available_memory,
    fixed_memory,
    loss_chunk,
    memory_warning,
    step_memory_law,
)
from seqrec_cli.training.precision import Precision, resolve_precision
from seqrec_cli.training.probe import gemm_rate, probe_steps, spread

# By the names models give them.
PARTS = {"items": "item_table", "output": "item_table", "places": "positions", "blocks": "blocks"}
OF_THE_BATCH = ("activations", "temporary", "loss_chunk", "kept_free")
EVALUATED_BATCHES = 3
EVALUATION_SECONDS = 2.0  # after which a second pass is not worth waiting for


def main(cfg: TrainConfig) -> dict[str, Any]:
    """The same numbers as the table: sizes in bytes, times in seconds, work in FLOPs; None for what was not measured.

    Keys: parameters, memory, loss_chunk, steps, flops, time, precision, warning, nothing_to_fit.
    """
    precision = resolve_precision(cfg.hardware)  # first: a device that is not there is refused before data is built
    log = prepare(cfg.dataset, Path(cfg.data_dir), say)
    title = f"{cfg.model.name}_{cfg.dataset.name}, {precision.name} on {precision.device}"
    with torch.device("meta"):
        sketch = fresh_model(cfg, log, torch.device("meta"))
    plan: dict[str, Any] = {"parameters": parameters_by_part(sketch), "precision": precision.name}
    plan |= {"memory": None, "loss_chunk": None, "steps": None, "flops": None, "time": None, "warning": None}
    plan["nothing_to_fit"] = not sketch.trainable_models()
    if plan["nothing_to_fit"]:
        say(f"{title}: counted in one pass over {len(log.items_N):,} events; there is nothing to fit")
        return plan

    available = available_memory(precision.device)
    fixed = fixed_memory(sketch)
    plan["memory"] = _memory(fixed, available) | dict.fromkeys(OF_THE_BATCH)
    plan["warning"] = memory_warning(fixed, 0, available, cfg)
    if plan["warning"] is None:
        _measure(cfg, log, precision, available, plan)
    print_table(plan_table(title, plan))
    if plan["warning"]:
        say(plan["warning"])
    return plan


def parameters_by_part(model: nn.Module) -> dict[str, int]:
    """Numbers of parameters: the total, and the part of it in item table, positions, blocks and the rest."""
    counts = dict.fromkeys(("total", *PARTS.values(), "rest"), 0)
    for name, parameter in model.named_parameters():
        counts["total"] += parameter.numel()
        counts[next((PARTS[part] for part in name.split(".") if part in PARTS), "rest")] += parameter.numel()
    return counts


def _memory(memory: StepMemory, available: int | None) -> dict[str, Any]:
    return asdict(memory) | {"total": memory.total, "available": available}


def _measure(
    cfg: TrainConfig, log: PackedLog, precision: Precision, available: int | None, plan: dict[str, Any]
) -> None:
    """Fill the plan with what needs the model itself: activations, work and, if all of it fits, time."""
    model = fresh_model(cfg, log, precision.device)
    objective = objective_for(cfg, log, precision.device)
    rows = training_rows(cfg, objective, log, precision.device)
    if rows.steps < 1:
        raise SeqrecError("no training rows: every history is too short after the filters; loosen dataset.*_core")
    largest = at_once(cfg.trainer, rows.largest())
    candidates = None if largest.candidates_BC is None else 1 + objective.negatives_per_row
    padded = Shapes.of(rows.sizes(0), True, candidates, cfg.trainer.micro_batch_tokens)
    useful = Shapes.of(rows.sizes(0), False, candidates)
    steps = cfg.trainer.max_epochs * rows.steps
    plan["steps"] = {"epoch": rows.steps, "total": min(steps, cfg.trainer.max_steps or steps)}

    law = step_memory_law(model, objective, largest, precision)
    memory = law(len(largest))
    chunk = loss_chunk(model, objective, precision, count_targets(largest))
    plan["memory"], plan["loss_chunk"] = _memory(memory, available), None if chunk is None else asdict(chunk)
    plan["warning"] = memory_warning(memory, 0, available, cfg, law, largest)

    work = step_flops(model, objective, largest, precision)
    done, needed = float(work.total(padded).sum()), float(work.total(useful).sum())
    parts = work.parts(useful)
    plan["flops"] = {"step": needed / rows.steps, "epoch": needed, "epoch_with_padding": done, "parts": parts}
    if plan["warning"] is None:
        probe = probe_steps(model, objective, rows, cfg.trainer, precision)
        epoch = spread(probe.seconds_P, work.total(padded)[probe.steps_P], work.total(padded))
        plan["memory"]["measured_peak"] = probe.peak_bytes
        plan["time"] = {"probed_steps": len(probe.steps_P), "epoch": epoch} | _rates(
            needed / epoch, float(useful.targets_S.sum()) / epoch, precision
        )
        plan["time"] |= _evaluation(cfg, log, model, precision)
        plan["time"] |= _whole_run(cfg, plan["steps"], plan["time"])


def _rates(flops: float, targets: float, precision: Precision) -> dict[str, float]:
    ceiling = gemm_rate(precision)
    return {"targets_per_second": targets, "ceiling": ceiling, "fraction": flops / ceiling}


def _evaluation(cfg: TrainConfig, log: PackedLog, model: Recommender, precision: Precision) -> dict[str, float]:
    """Seconds of a validation, from a few of its batches."""
    length = cfg.model.max_length
    users_U = evenly_by_length(log, "val", length, cfg.evaluation.batch_size, EVALUATED_BATCHES)
    few = of_users(log, users_U)
    seconds: list[float] = []
    while len(seconds) < 2 and (cfg.hardware.compile or sum(seconds) < EVALUATION_SECONDS):  # the first time warms up
        began = time.perf_counter()
        evaluate(model, few, "val", cfg.evaluation, length, precision)
        seconds.append(time.perf_counter() - began)
    rate = len(users_U) / seconds[-1]
    ranked = subsample(held_out(log, "val"), cfg.evaluation.ranked_users)
    return {"users_per_second": rate, "evaluation": len(ranked.rows_R) / rate}


def _whole_run(cfg: TrainConfig, steps: dict[str, int], times: dict[str, float]) -> dict[str, float]:
    """The run to its last step: training, validations, and at the end both splits once more (without baselines); as
    often as there are seeds."""
    whole, rest = divmod(steps["total"], steps["epoch"])
    every = cfg.trainer.evaluate_every
    evaluations = whole // every + (rest > 0 or whole % every > 0) + 2
    epochs = steps["total"] / steps["epoch"]
    seconds, seeds = epochs * times["epoch"] + evaluations * times["evaluation"], cfg.trainer.seeds
    return {"epochs": epochs, "evaluations": evaluations, "seeds": seeds, "run": seconds * seeds}
