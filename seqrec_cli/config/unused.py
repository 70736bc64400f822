"""Settings that the command line gives and the chosen model, or the other settings, have no use for: they are refused,
not ignored.

The same values from a default, an experiment or a debugging option are left alone: those are written for many models.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from seqrec_cli.config.audit import AuditConfig
from seqrec_cli.config.card import CardConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.explain import ExplainConfig
from seqrec_cli.config.export import ExportConfig
from seqrec_cli.config.records import CompareConfig, PlanConfig, RecommendConfig, ServeConfig
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.stages import StagesConfig

# What is about optimizer steps. Limits (max_epochs, max_steps) hold for a model that takes none; `monitor` is part of
# its protocol, and `seed` of its manifest.
OF_STEPS = frozenset(
    f"trainer.{name}"
    for name in (
        "batch_size",
        "bucket_by_length",
        "lr",
        "betas",
        "weight_decay",
        "decay_embeddings",
        "warmup_steps",
        "schedule",
        "final_lr",
        "plateau_factor",
        "clip_norm",
        "patience",
        "evaluate_every",
    )
)

# Of `compare`, where it reads what runs stored.
OF_RUNS = frozenset(("split", "metrics", "segments", "may_differ", "resamples", "seed", "data_dir"))


class Idle(NamedTuple):
    """Keys of a record (or of a section of it) that change nothing while this holds, and what gives them a use."""

    record: type[Settings]
    keys: tuple[str, ...]
    holds: Callable[[Any], bool]
    use: str


IDLE = (
    Idle(AuditConfig, ("endings", "drift"), lambda cfg: cfg.ckpt is None, "asks a model, and goes with ckpt=RUN"),
    Idle(RecommendConfig, ("mmr_pool", "mmr_by"), lambda cfg: cfg.mmr is None, "goes with mmr=LAMBDA"),
    Idle(
        RecommendConfig,
        ("replace", "sequence_separator", "chunk", "batch"),
        lambda cfg: cfg.input is None,
        "goes with input=FILE",
    ),
    Idle(ExplainConfig, ("deletion",), lambda cfg: not cfg.check, "goes with check=true"),
    Idle(
        ExplainConfig,
        ("gap", "points"),
        lambda cfg: cfg.method != "integrated_gradients",
        "goes with method=integrated_gradients",
    ),
    Idle(ExplainConfig, ("top",), lambda cfg: cfg.item is not None, "counts recommended items, and item=ID names one"),
    Idle(ServeConfig, ("most_added", "compact_at"), lambda cfg: cfg.state is None, "goes with state=FOLDER"),
    Idle(CardConfig, ("depth",), lambda cfg: cfg.picture is False, "is of the picture, which picture=false leaves out"),
    Idle(ExportConfig, ("index",), lambda cfg: cfg.format != "embeddings", "goes with format=embeddings"),
)


def _refuse_idle(record: Settings, overrides: Iterable[str]) -> None:
    for text in overrides:
        key, _, value = text.lstrip("+").partition("=")
        for idle in IDLE:
            named = key in idle.keys or key.partition(".")[0] in idle.keys
            if named and value != "null" and isinstance(record, idle.record) and idle.holds(record):
                raise SeqrecError(f"{text.lstrip('+')} changes nothing here: it {idle.use}; leave it out")


def refuse_unused(record: Settings, overrides: Iterable[str]) -> None:
    """Raises SeqrecError for the first override that changes nothing of what `record` trains, compares or asks."""
    overrides = list(overrides)
    _refuse_idle(record, overrides)
    if isinstance(record, StagesConfig) and record.ckpt is not None:
        for text in overrides:
            if text.startswith("retrieved="):
                raise SeqrecError(
                    f"{text}: ckpt={record.ckpt} answers alone; it goes with retriever=RUN and ranker=RUN"
                )
    hardware = getattr(record, "hardware", None)
    if hardware is not None and hardware.processes not in (None, 1) and type(record) not in (TrainConfig, PlanConfig):
        raise SeqrecError(
            f"hardware.processes={hardware.processes}: several processes train one model, and this verb works in one; "
            "leave the setting out"
        )
    if isinstance(record, CompareConfig) and record.log is not None:
        for text in overrides:
            key = text.lstrip("+").partition("=")[0]
            if key in OF_RUNS:
                raise SeqrecError(f"{key} is of runs=[A,B], not of an online experiment's log; leave it out")
    if isinstance(record, ServeConfig) and record.runs is None and any(text.startswith("salt=") for text in overrides):
        raise SeqrecError("salt deals users to several runs; give them as 'runs=[A,B]', or leave it out")
    if not isinstance(record, TrainConfig) or record.model.capabilities.family != "closed_form":
        return
    for text in overrides:
        key, _, value = text.lstrip("+").partition("=")
        if key in OF_STEPS and value != "null":  # null switches a thing off
            raise SeqrecError(
                f"{key}: model={record.model.name} is fitted in closed form, in no steps; leave the setting out"
            )
