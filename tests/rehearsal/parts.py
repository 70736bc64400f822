"""What is rehearsed: every model of conf/ with every objective that can train it, small, over a log in memory."""

import functools
from pathlib import Path
from typing import Any

import torch
from toylog import packed, random_histories

from seqrec_cli.commands.teaching import stand_in
from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows
from seqrec_cli.config.registry import config_class, names
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.training.fitting import Listener
from seqrec_cli.training.loop import Loop
from seqrec_cli.training.precision import Precision
from tests.models.toy import CAUSAL, model_names, numbers, small_config
from tests.shipped import shipped
from tests.training.configured import config

LENGTH = 12
PACKED = "packed"  # next items from histories laid end to end, for the models that can
LOG = packed(random_histories(14, 30, 10), 30, click_negatives=3)
CPU = torch.device("cpu")


def pairs() -> list[tuple[str, str]]:
    """(model, objective) by their capabilities alone, as `seqrec train` lets them pass."""
    objectives = [*names("objective"), PACKED, "prefixes"]
    return [(model, objective) for model in model_names() for objective in objectives if _fit(model, objective)]


def _fit(model: str, objective: str) -> bool:
    kind = config_class("model", model)
    can, wants = kind.capabilities, config_class("objective", objective_of(objective))
    if objective == PACKED:
        return can.packs
    if wants.needs_impressions:  # of which the log has none
        return False
    wants = wants.capabilities
    if can.family not in wants.families:
        return False
    if can.family != "encoder" or wants.causal is None or objective == "prefixes":
        return True
    if objective == "multi_step" and "steps_ahead" not in kind.model_fields:  # an ensemble's members have theirs
        return False
    causal = can.causal or model in CAUSAL
    return causal if wants.causal else not causal or (not can.causal and model not in CAUSAL)


def objective_of(name: str) -> str:
    """The objective whose rows are cut another way, or `name` itself."""
    return "next_item" if name in (PACKED, "prefixes") else name


def settings(model: str, objective: str, changes: dict[str, Any] | None = None, **trainer: Any) -> TrainConfig:
    """A run's settings: small sizes, nothing left out by chance unless `changes` of the model say so."""
    base = _base()
    own = {} if objective != "prefixes" or model not in CAUSAL else dict.fromkeys(CAUSAL[model])
    own = {name: shipped("model", model)[name] for name in own}
    own |= {"steps_ahead": 2} if objective == "multi_step" else {}
    learned = shipped("objective", "next_item" if objective == PACKED else objective)
    learned = learned | {"window": PACKED} if objective == PACKED else learned
    chosen = small_config(model, max_length=LENGTH, **own, **(changes or {}))
    parts = {
        "model": chosen,
        "objective": config_class("objective", learned["name"]).from_plain(learned),
        "trainer": base.trainer.model_copy(update=trainer),
    }
    return TrainConfig.model_validate({**dict(base), **parts})


@functools.cache
def _base() -> TrainConfig:
    return config(["model=sasrec", "trainer.batch_size=6"])


def loop_of(cfg: TrainConfig, precision: Precision, folder: Path = Path(), log: PackedLog = LOG) -> Loop:
    """The loop of `seqrec train`, before its first step."""
    device = precision.device
    objective, model = objective_for(cfg, log, device), fresh_model(cfg, log, device)
    rows = training_rows(cfg, objective, log, device=device, soft=stand_in(cfg, log))
    model.train()
    return Loop(
        model,
        objective,
        rows,
        cfg=cfg.trainer,
        precision=precision,
        validate=dict,
        header={"config": {}, "facts": log.catalog.facts(), "fingerprint": log.fingerprint},
        folder=folder,
        listener=Listener(),
    )


__all__ = ["CPU", "LENGTH", "LOG", "PACKED", "loop_of", "numbers", "pairs", "settings"]
