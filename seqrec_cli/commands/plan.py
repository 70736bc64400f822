"""`seqrec plan`: what `seqrec train` with the same settings would take, before it is run.

Parameters and fixed memory come from a model without storage; activations, work and time from real steps. Where memory
will not do, a WARNING line says so, nothing is timed, and the exit code is still 0: the question was answered. Writes
nothing but the preprocessed data.
"""

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from seqrec_cli.commands.console import say
from seqrec_cli.commands.settle import settle
from seqrec_cli.commands.teaching import stand_in
from seqrec_cli.commands.training_setup import (
    fresh_model,
    objective_for,
    refuse_too_large,
    sketched_model,
    training_rows,
    worked_positions,
)
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.sample import evenly_by_length, of_users
from seqrec_cli.data.splits import held_out, subsample
from seqrec_cli.evaluation.evaluate import evaluate
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.reporting.advice import what_to_cut
from seqrec_cli.reporting.plan_table import in_time, plan_table
from seqrec_cli.reporting.tables import print_table
from seqrec_cli.training.closed_form import closed_form_seconds, closed_form_shortage
from seqrec_cli.training.log_place import bytes_on_device
from seqrec_cli.training.memory import (
    StepMemory,
    available_memory,
    bytes_of,
    fixed_memory,
    in_bytes,
    largest_part,
    measured_memory,
    shortage,
)
from seqrec_cli.training.precision import Precision, resolve_precision
from seqrec_cli.training.step_cost import epoch_flops, padded_events, timed_steps

# By the names models give them.
PARTS = {"items": "item_table", "output": "item_table", "positions": "positions", "blocks": "blocks"}
EVALUATED_BATCHES = 3
EVALUATION_SECONDS = 2.0  # after which a second pass is not worth waiting for


def main(cfg: TrainConfig) -> dict[str, Any]:
    """The same numbers as the table: sizes in bytes, times in seconds, work in FLOPs; None for what was not measured.

    Keys: parameters, memory, steps, flops, time, precision, warning, nothing_to_fit.
    """
    precision = resolve_precision(cfg.hardware)  # first: a device that is not there is refused before data is built
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), say), cfg.protocol, say)
    cfg = settle(cfg, log, "plan")
    title = f"{cfg.model.name}_{cfg.dataset.name}, {precision.name} on {precision.device}"
    sketch = sketched_model(cfg, log)
    plan: dict[str, Any] = {"parameters": parameters_by_part(sketch), "precision": precision.name}
    plan |= {"memory": None, "steps": None, "flops": None, "time": None, "warning": None}
    plan["nothing_to_fit"] = not sketch.trainable_models()
    if plan["nothing_to_fit"]:
        return _closed_form(cfg, log, sketch, plan=plan, title=title)

    available, memory, held = available_memory(precision.device), fixed_memory(sketch), 0
    plan["warning"] = shortage(memory, available, cfg, batch=None)
    if plan["warning"] is None:
        refuse_too_large(cfg, log, precision.device, model=False)
        model = fresh_model(cfg, log, precision.device)
        objective = objective_for(cfg, log, precision.device)
        held = bytes_on_device(cfg.hardware.log, log, precision.device)
        rows = training_rows(cfg, objective, log, device=precision.device, soft=stand_in(cfg, log))
        available = available_memory(precision.device)
        largest = largest_part(rows.largest(), cfg.trainer)
        memory = measured_memory(model, objective, largest, precision=precision, available=available)
        plan["warning"] = shortage(memory, available, cfg, batch=largest)

        steps = cfg.trainer.max_epochs * rows.steps
        plan["steps"] = {"epoch": rows.steps, "total": min(steps, cfg.trainer.max_steps or steps)}
        tokens_S = padded_events(rows)
        flops = epoch_flops(model, objective, rows, precision=precision, worked=partial(worked_positions, cfg))
        plan["flops"] = {"step": flops / rows.steps, "epoch": flops}
    if plan["warning"] is None:
        tokens_P, targets_P, seconds_P = timed_steps(model, objective, rows, cfg=cfg.trainer, precision=precision)
        epoch = float(np.median(seconds_P / tokens_P) * tokens_S.sum())
        plan["time"] = {"timed_steps": len(seconds_P), "epoch": epoch}
        plan["time"] |= {"targets_per_second": targets_P.sum() / seconds_P.sum(), "flops_per_second": flops / epoch}
        plan["time"] |= _evaluation(cfg, log, model, precision=precision)
        plan["time"] |= _whole_run(cfg, plan["steps"], plan["time"])
    plan["memory"] = by_use(memory, held, available)
    print_table(plan_table(title, plan))
    slow = what_to_cut(cfg, plan["time"]["run"]) if plan["time"] else None
    for line in (plan["warning"], slow):
        if line:
            say(line)
    return plan


def by_use(memory: StepMemory, held: int, available: int | None) -> dict[str, int | None]:
    """Bytes of a step by what they are for, and in all; `held` are those of the log's events on the device, which are
    there before the first step, as the model is. `available`: what was free when they were."""
    return asdict(memory) | {"log": held, "total": memory.total + held, "available": available}


def _closed_form(
    cfg: TrainConfig, log: PackedLog, sketch: Recommender, *, plan: dict[str, Any], title: str
) -> dict[str, Any]:
    """Memory and time of a model that is counted or solved, in a line."""
    if cfg.model.name == "auto":
        limit = "no limit (trainer.minutes=null)" if cfg.trainer.minutes is None else f"{cfg.trainer.minutes:g} minutes"
        say(f"{title}: its candidates together take {limit}; what each takes alone: seqrec plan model=NAME")
        return plan
    needed, kept = sketch.closed_form_bytes(len(log.items_N)), bytes_of(list(sketch.buffers()))
    plan["memory"] = {"model": kept, "fitting": needed, "total": kept + needed}
    plan["warning"] = closed_form_shortage(sketch, log)
    told = f"{title}: counted in one pass over {len(log.items_N):,} events, there is nothing to fit"
    if plan["warning"] is None:
        model = build_model(cfg.model, log.catalog, cfg.trainer.seed)
        plan["time"] = {"fit": closed_form_seconds(model, log)}
        told += f"; about {in_time(plan['time']['fit'])}"
    say(f"{told}; {in_bytes(kept + needed)}")
    if plan["warning"]:
        say(f"WARNING: {plan['warning']}")
    return plan


def parameters_by_part(model: nn.Module) -> dict[str, int]:
    """Numbers of parameters: the total, and the part of it in item table, positions, blocks and the rest."""
    counts = dict.fromkeys(("total", *PARTS.values(), "rest"), 0)
    for name, parameter in model.named_parameters():
        counts["total"] += parameter.numel()
        counts[next((PARTS[part] for part in name.split(".") if part in PARTS), "rest")] += parameter.numel()
    return counts


def _evaluation(cfg: TrainConfig, log: PackedLog, model: Recommender, *, precision: Precision) -> dict[str, float]:
    """Seconds of a validation, from a few of its batches."""
    length = cfg.model.max_length
    users_U = evenly_by_length(log, "val", length, batch_size=cfg.evaluation.batch_size, batches=EVALUATED_BATCHES)
    few = of_users(log, users_U)
    seconds: list[float] = []
    while len(seconds) < 2 and (cfg.hardware.compile or sum(seconds) < EVALUATION_SECONDS):  # the first time warms up
        began = time.perf_counter()
        evaluate(model, few, "val", cfg=cfg.evaluation, max_length=length, precision=precision)
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
