"""What settings of training rows ask of each other: windows, batches counted in tokens, rows of equal length, packed
rows."""

from typing import TYPE_CHECKING

from seqrec_cli.config.objective import WindowConfig
from seqrec_cli.config.padding import PaddedConfig

if TYPE_CHECKING:
    from seqrec_cli.config.schema import TrainConfig


def rows_fit(cfg: "TrainConfig") -> None:
    """Raises ValueError with one line where rows cannot be had as the settings say."""
    trainer, objective = cfg.trainer, cfg.objective
    if isinstance(objective, WindowConfig) and (objective.stride or 0) > cfg.model.max_length:
        raise ValueError(
            f"objective.stride={objective.stride} would leave events out between windows of "
            f"model.max_length={cfg.model.max_length}; set it to at most that"
        )
    if trainer.bucket_by_length == "equal" and objective.capabilities.rows == "prefixes":
        raise ValueError(
            f"trainer.bucket_by_length=equal is of windows; objective={objective.name} has none, set it to true"
        )
    if _packed(cfg):
        _rows_can_be_packed(cfg)
    if trainer.batch_tokens is None:
        return
    if objective.capabilities.rows != "windows":
        raise ValueError(
            f"trainer.batch_tokens counts windows' tokens; objective={objective.name} has no windows: "
            "set trainer.batch_size instead"
        )
    if not trainer.bucket_by_length and not _packed(cfg):
        raise ValueError(
            "trainer.batch_tokens fills batches with rows of like length: set trainer.bucket_by_length=true, "
            "or trainer.batch_tokens=null"
        )


def _packed(cfg: "TrainConfig") -> bool:
    return isinstance(cfg.objective, WindowConfig) and cfg.objective.window == "packed"


def _rows_can_be_packed(cfg: "TrainConfig") -> None:
    if not cfg.model.capabilities.packs:
        raise ValueError(
            f"objective.window=packed: model={cfg.model.name} has layers that read rows, padding and all; use "
            "objective.window=sliding, or model=sasrec, esasrec or hstu"
        )
    if isinstance(cfg.model, PaddedConfig) and cfg.model.padding != "none":
        raise ValueError(
            f"model.padding={cfg.model.padding}: objective.window=packed lays histories end to end without any; "
            "use one of the two (model.padding=none, or objective.window=sliding)"
        )
    others = {"agreement": ("none", "pooling", "bias"), "user_input": ("add", "concat")}
    for name, (instead, *refused) in others.items():
        found = getattr(cfg.model, name, instead)
        if found in refused and (name != "user_input" or getattr(cfg.model, "user_dim", None)):
            raise ValueError(
                f"model.{name}={found} reads whole rows, and objective.window=packed has none; use "
                f"model.{name}={instead}, or objective.window=sliding"
            )
    if cfg.hardware.compile:
        raise ValueError(
            f"hardware.compile={str(cfg.hardware.compile).lower()}: objective.window=packed has other groups of rows "
            "at every step, each to be compiled; set it to false"
        )
