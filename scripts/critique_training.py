"""One run of docs/critique's tables: trained, measured, and what it cost, as a line of results.jsonl."""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from scripts.critique_also import measured
from scripts.critique_arms import Run, Tables, arm_of
from seqrec_cli.commands.dispatch import record_of
from seqrec_cli.commands.settle import settle
from seqrec_cli.commands.teaching import stand_in
from seqrec_cli.commands.train import main as train
from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows, worked_positions
from seqrec_cli.commands.vectors_of_run import give_vectors
from seqrec_cli.config.compose import compose
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import dump
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.models.contract import ClosedFormModel
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.saying import silent
from seqrec_cli.training.precision import resolve_precision
from seqrec_cli.training.step_cost import epoch_flops

METRICS = ("hr@10", "ndcg@10")
NAMED = re.compile(r"\{run:(.*?)\}")
ALWAYS = ("hardware.threads=1", "evaluation.baselines=false")


def folder_of(run: Run, work: Path) -> Path:
    """Where the run lies: one folder for the same settings, whatever the table calls them."""
    settings = hashlib.sha256("\n".join(run.arm.settings).encode()).hexdigest()[:8]
    slug = re.sub(r"[^\w.=-]+", "-", run.arm.name).strip("-")
    return work / "runs" / run.arm.table / run.arm.log / f"{slug}_{settings}" / f"seed_{run.seed}"


def trained(run: Run, tables: Tables, archive: str, *, work: Path, known_flops: float | None = None) -> dict[str, Any]:
    """Train from the beginning and measure once on test. Raises SeqrecError for settings that do not go together.

    Runs whose folders it needs and that are not there are trained first. `known_flops` are an epoch's, in 10^12, where
    another seed has been counted.
    """
    settings, needed = with_folders(run, tables, work)
    for other in needed:
        if not (folder_of(other, work) / "metrics.json").is_file():
            trained(other, tables, archive, work=work)
    folder = folder_of(run, work)
    if folder.is_dir():  # its result was not kept: it was stopped, or its line is gone
        shutil.rmtree(folder)
    place = [f"data_dir={work / 'data'}", f"run_dir={folder}", *([f"dataset.archive={archive}"] if archive else [])]
    overrides = [*settings, *ALWAYS, f"trainer.seed={run.seed}", *place]
    cfg = record_of("train", compose("train", overrides), overrides)
    assert isinstance(cfg, TrainConfig)
    began = time.process_time()
    result = train(cfg)
    if result.get("interrupted"):
        raise KeyboardInterrupt
    seconds = time.process_time() - began
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    ends, also = result["intervals"]["test"], tables[run.arm.table].get("also", ())
    return {
        "table": run.arm.table,
        "log": run.arm.log,
        "arm": run.arm.name,
        "settings": list(run.arm.settings),
        "seed": run.seed,
        "val": {name: round(result["val"][name], 5) for name in METRICS},
        "test": {name: round(result["test"][name], 5) for name in METRICS},
        "half": {name: round((ends[name][1] - ends[name][0]) / 2, 5) for name in METRICS},
        "lr": cfg.trainer.lr,
        "best_epoch": manifest["fit"]["best_epoch"],
        "epochs": manifest["fit"]["epochs"],
        "parameters": manifest["parameters"],
        "cpu_s": round(seconds, 1),
        "tflop_epoch": flops_of(cfg) if known_flops is None else known_flops,
        "config": fingerprint(cfg, {str(folder_of(other, work)): other.arm.name for other in needed}),
        "data": manifest["data"]["fingerprint"][:12],
        **({"also": measured(folder, also)} if also else {}),
    }


def with_folders(run: Run, tables: Tables, work: Path) -> tuple[list[str], list[Run]]:
    """The arm's overrides with the folders of the runs that they name as {run:ARM}, and these runs: of the same table,
    log and seed."""
    table, log = run.arm.table, run.arm.log
    named = [
        Run(arm_of(tables, table, log=log, arm=name), run.seed) for name in NAMED.findall(" ".join(run.arm.settings))
    ]
    folders = iter([str(folder_of(other, work)) for other in named])
    return [NAMED.sub(lambda _: next(folders), text) for text in run.arm.settings], named


def fingerprint(cfg: TrainConfig, arms: Mapping[str, str]) -> str:
    """Of all settings but the seed and where files lie; `arms` are the runs it names, by their folders."""
    plain = dump(cfg)
    for name in ("run_dir", "data_dir"):
        del plain[name]
    del plain["dataset"]["archive"], plain["trainer"]["seed"]
    text = json.dumps(plain, sort_keys=True, default=str)
    for folder, arm in arms.items():
        text = text.replace(json.dumps(folder), json.dumps(arm))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def flops_of(cfg: TrainConfig) -> float:
    """10^12 floating-point operations of an epoch, as `seqrec plan` counts; none for what is fitted by counting."""
    precision = resolve_precision(cfg.hardware)
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), silent), cfg.protocol, silent)
    cfg = settle(cfg, log, "plan")
    model = fresh_model(cfg, log, precision.device)
    if isinstance(model, ClosedFormModel):
        return 0.0
    give_vectors(model, cfg, log)
    objective = objective_for(cfg, log, precision.device)
    rows = training_rows(cfg, objective, log, device=precision.device, soft=stand_in(cfg, log))
    flops = epoch_flops(model, objective, rows, precision=precision, worked=partial(worked_positions, cfg))
    return float(f"{flops / 1e12:.4g}")
