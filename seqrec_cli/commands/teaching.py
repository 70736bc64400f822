"""A run that learns from another one: that is restored, asked what follows every training event, and the answers kept
beside the data, for this run and others (seeds, a sweep, one that goes on)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.commands.console import say
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.migrations import migrated
from seqrec_cli.config.objective.distil import Config
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate_plain
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.soft_targets import SoftTargets, SoftTargetsFile
from seqrec_cli.files import one_builder
from seqrec_cli.models.build import build_model
from seqrec_cli.training.checkpoint import checkpoint_file, load_checkpoint
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.soft_teacher import Asked, ask

FOLDER = "soft_targets"  # in the packed log's


def teacher_is_there(cfg: TrainConfig) -> None:
    """Raises SeqrecError where the teacher's file is missing: before the data are prepared."""
    if isinstance(cfg.objective, Config):
        try:
            checkpoint_file(Path(cfg.objective.teacher).expanduser())
        except SeqrecError as error:
            raise SeqrecError(f"objective.teacher: {error}") from error


def be_taught(cfg: TrainConfig, log: PackedLog, precision: Precision) -> SoftTargets | None:
    """What the teacher says of the training events, asked now where nobody has asked before; None without a teacher.

    Raises SeqrecError for a teacher of other data, and where it cannot be read.
    """
    objective = cfg.objective
    if not isinstance(objective, Config):
        return None
    payload = _teacher(objective, log)
    folder, settings = _place(objective, log, payload)
    if (found := _opened(folder, objective)) is not None:
        return found
    with one_builder(folder, say):
        if (found := _opened(folder, objective)) is not None:  # another process was first
            return found
        of = validate_plain("train", migrated(payload["config"]))
        assert isinstance(of, TrainConfig)
        model = build_model(of.model, log.catalog, of.trainer.seed)
        model.load_state_dict(payload["model"])
        file = SoftTargetsFile(folder, log, _top(objective, log))
        if objective.top > log.num_items:
            say(f"objective.top={objective.top}: all of the {log.num_items:,} items are kept")
        say(f"asking the teacher, {of.model.name} of {objective.teacher}, what follows every training event, once")
        asked = Asked(
            model=model,
            cfg=of.model,
            log=log,
            precision=precision,
            stride=objective.teacher_stride,
            temperature=_temperature(objective),
            memory_mb=cfg.evaluation.memory_mb,
        )
        ask(asked, file, say)
        file.finish(settings)
    found = _opened(folder, objective)
    assert found is not None
    return found


def taught_before(cfg: TrainConfig, log: PackedLog) -> SoftTargets | None:
    """What the first of several processes was told; None without a teacher.

    Raises SeqrecError where it is not there.
    """
    objective = cfg.objective
    if not isinstance(objective, Config):
        return None
    folder, _ = _place(objective, log, _teacher(objective, log))
    if (found := _opened(folder, objective)) is None:
        raise SeqrecError(f"{folder}: no answers of the teacher; every machine needs the same data_dir as the first")
    return found


def stand_in(cfg: TrainConfig, log: PackedLog) -> SoftTargets | None:
    """In place of what a teacher says, to learn what a step costs without asking it; None without a teacher."""
    objective = cfg.objective
    return SoftTargets.of_no_teacher(log, objective.top) if isinstance(objective, Config) else None


def _teacher(objective: Config, log: PackedLog) -> dict[str, Any]:
    try:
        payload = load_checkpoint(Path(objective.teacher).expanduser(), setting="objective.teacher")
    except SeqrecError as error:
        raise SeqrecError(f"objective.teacher: {error}") from error
    if not log.fits(payload["fingerprint"]):
        raise SeqrecError(
            f"objective.teacher={objective.teacher}: it was trained on other data, or by another protocol, than this "
            f"run's (fingerprint {payload['fingerprint'][:12]}, here {log.fingerprint[:12]}); give a teacher that "
            "agrees in both"
        )
    return payload


def _place(objective: Config, log: PackedLog, payload: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The folder of this teacher's answers, and what they depend on."""
    if log.folder is None:
        raise SeqrecError("objective=distil keeps the teacher's answers beside the data, and this log is in no folder")
    settings = {
        "teacher": _digest(payload["model"]),
        "model": payload["config"]["model"],  # the same weights may answer otherwise: neighbours by another half_life
        "data": log.fingerprint,
        "top": _top(objective, log),
        "temperature": _temperature(objective),
        "stride": objective.teacher_stride,
        "seen": "keep" if log.view is None else log.view.seen,
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    return log.folder / FOLDER / key, settings | {"run": objective.teacher}


def _digest(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        values = weights[name].detach().contiguous().reshape(-1).view(torch.uint8)
        digest.update(f"{name} {tuple(weights[name].shape)}".encode())
        digest.update(np.ascontiguousarray(values.numpy()).data)
    return digest.hexdigest()


def _top(objective: Config, log: PackedLog) -> int:
    return min(objective.top, log.num_items)


def _temperature(objective: Config) -> float:
    """What the teacher's scores are divided by."""
    return 1.0 if objective.soft_targets == "ranks" else objective.temperature / objective.teacher_scale


def _opened(folder: Path, objective: Config) -> SoftTargets | None:
    return SoftTargets.open(folder, by=objective.soft_targets, rank_decay=objective.rank_decay)
