"""Settings written `auto`, settled from the data: after the log is there, before anything is built from them."""

from typing import Any, TypeVar

import numpy as np

from seqrec_cli.commands.console import say
from seqrec_cli.config.auto import settled
from seqrec_cli.config.auto_rule import Facts
from seqrec_cli.config.describe import value_in_words
from seqrec_cli.config.objective import WindowConfig
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import dump, validate_plain
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import windows
from seqrec_cli.data.splits import held_out, train_ends, training_targets, user_training_counts
from seqrec_cli.saying import Say

# What is told of a settled run; the rest is in its config.yaml.
SHOWN = (
    "max_length",
    "embed_dim",
    "blocks",
    "dropout",
    "negatives",
    "batch_size",
    "max_epochs",
    "patience",
    "warmup_steps",
    "lr",
)
Run = TypeVar("Run", bound=TrainConfig)


def settle(cfg: Run, log: PackedLog, verb: str = "train", *, tell: Say = say) -> Run:
    """The configuration with numbers alone, which are told in a line; as it is where it was one already."""
    if not cfg.auto:
        return cfg
    of_length = {name: word for name, word in cfg.auto.items() if name.endswith(".max_length")}
    plain = settled(dump(cfg), of_length, facts_of(cfg, log))
    cut = validate_plain(verb, plain)  # by that length histories are cut into rows
    assert isinstance(cut, type(cfg))
    facts = facts_of(cut, log)
    plain = settled(plain, {name: word for name, word in cfg.auto.items() if name not in of_length}, facts)
    found = validate_plain(verb, plain)
    assert isinstance(found, type(cfg))
    if cfg.model.capabilities.family != "closed_form":
        tell(told(plain, dict(cfg.auto), facts))
    return found


def facts_of(cfg: TrainConfig, log: PackedLog) -> Facts:
    """What the rule knows of the log, as the model and the objective see it."""
    lengths_U = user_training_counts(log)[1:]
    return Facts(
        items=log.num_items,
        events=int(lengths_U.sum()),
        rows=_rows(cfg, log, train_ends(log)),
        longest=int(np.quantile(lengths_U, 0.95)),
        requests=len(held_out(log, "val").rows_R),
    )


def _rows(cfg: TrainConfig, log: PackedLog, ends_U: np.ndarray) -> int:
    offsets_U1, objective = np.asarray(log.offsets_U1), cfg.objective
    if isinstance(objective, WindowConfig):
        rows_R, _, _ = windows(offsets_U1, ends_U, cfg.model.max_length, kind=objective.window, stride=objective.stride)
        return len(rows_R)
    labelled = log.clicks.get("train")
    return len(training_targets(offsets_U1, ends_U)[0]) if labelled is None else len(labelled.rows_R)


def told(plain: dict[str, Any], words: dict[str, Any], facts: Facts) -> str:
    """`auto: 1,800 steps (60 epochs), trainer.batch_size=32, ...`: the settled settings, as they can be given."""
    rows, trainer = max(facts.rows, 1), plain["trainer"]
    steps = trainer["max_epochs"] * -(-rows // trainer["batch_size"])
    steps = min(steps, trainer["max_steps"] or steps)
    shown = [name for name in words if name.rpartition(".")[2] in SHOWN]
    given = " ".join(f"{name}={value_in_words(_at(plain, name))}" for name in shown)
    return f"auto: at most {steps:,} steps, by {facts.rows:,} rows and {facts.events:,} training events: {given}"


def _at(plain: dict[str, Any], name: str) -> Any:
    found: Any = plain
    for part in name.split("."):
        found = found[part]
    return found
