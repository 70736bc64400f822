"""Settings by their former names, on a command line, in a YAML file or in a run's folder; and settings that a run was
made without. What was renamed is told once, in a line."""

import copy
import functools
import re
import sys
from typing import Any

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import GROUPS, config_class

VERBS = {"mix": "ensemble"}
RENAMED = {  # keys, options of groups (GROUP=OPTION) and values (KEY=VALUE)
    "dataset.click_negatives": "protocol.click_negatives",
    "dataset.held_out_users": "protocol.held_out_users",
    "dataset.protocol": "protocol",
    "evaluation.floors": "evaluation.baselines",
    "model=mixture": "model=ensemble",
    "objective=count": "objective=closed_form",
    "objective=shift": "objective=next_item",
    "objective.log_q=false": "objective.log_q=none",
    "objective.log_q=true": "objective.log_q=negatives",
    "objective.sampling=unmet": "objective.sampling=unseen",
    "trainer.like_lengths": "trainer.bucket_by_length",
    "trainer.part_tokens": "trainer.micro_batch_tokens",
}
# What every protocol did before there was a choice.
NEUTRAL_PROTOCOL = {"seen": "remove", "candidates": "full", "ties": "file"}
# What was done before there was a setting, by models and objectives that have it now.
BEFORE: dict[str, Any] = {
    "dataset.item_text": None,
    "dataset.item_vectors": None,
    "dataset.numeric_columns": [],
    "dataset.encoding": "utf-8",
    "dataset.engine": "auto",
    "dataset.label_column": None,
    "dataset.memory": None,
    "dataset.missing": "keep",
    "dataset.order_columns": [],
    "dataset.item_attribute_columns": [],
    "dataset.item_file": None,
    "dataset.item_file_id": None,
    "dataset.owner_column": None,
    "dataset.owners": False,
    "dataset.sequence_separator": None,
    "dataset.predict": "items",
    "dataset.quoted": True,
    "dataset.session_column": None,
    "dataset.split_column": None,
    "dataset.split_leaks": False,
    "dataset.test_file": None,
    "dataset.text_fields": [],
    "dataset.text_width": 128,
    "dataset.title_column": None,
    "dataset.user_attribute_columns": [],
    "dataset.user_file": None,
    "dataset.user_file_id": None,
    "dataset.valid_file": None,
    "dataset.value_separator": None,
    "dataset.weight_column": None,
    "evaluation.test": "once",
    "evaluation.beyond_accuracy": False,
    "hardware.kernels": True,
    "hardware.table": "replicated",
    "hardware.processes": 1,
    "hardware.restarts": 3,
    "hardware.timeout_minutes": 30.0,
    "hardware.log": "auto",
    "model.agreement": "none",
    "model.attention_form": "softmax",
    "model.attention_window": 32,
    "model.batch_norm": False,
    "model.context": "none",
    "model.event_dropout": 0.0,
    "model.experts": 8,
    "model.ffn_dropout": 0.0,
    "model.item_swap": 0.0,
    "model.items": "ids",
    "model.layer_std": None,
    "model.l2_counts": "once",
    "model.l2_attributes": False,
    "model.padding": "none",
    "model.padding_positions": False,
    "model.steps_ahead": 1,
    "model.text_dropout": 0.2,
    "model.user_attributes": "none",
    "model.user_input": "add",
    "model.user_output": "none",
    "model.user_swap": 0.0,
    "model.widths": None,
    "objective.known": "none",
    "objective.known_decay": 0.9,
    "objective.known_sharpness": 1.0,
    "objective.log_q": "negatives",
    "objective.memory": 8192,
    "objective.pool": 4,
    "objective.scheduled_sampling": "none",
    "objective.scheduled_epochs": 10.0,
    "objective.scheduled_least": 0.0,
    "trainer.bucket_by_length": True,
    "trainer.decay_embeddings": False,
    "trainer.minutes": None,
}
# The same of one model or objective alone.
BEFORE_OF: dict[str, dict[str, Any]] = {
    "all_action": {"discount": 1.0},
    "bst": {"block_activation": "leaky_relu", "activation": "leaky_relu"},
    "dien": {
        "attention": "bilinear",
        "unit": [80, 40],
        "unit_activation": "sigmoid",
        "auxiliary_negatives": "uniform",
        "auxiliary_mlp": None,
    },
    "din": {"score": "unit"},
    "ease": {"exact_items": 5000},
    "ensemble": {"trained": "apart"},
    "next_item": {"negatives": None, "owner_weight": 0.0},
    "cloze": {"negatives": None},
}


def verb(name: str) -> str:
    """The verb that this one is called now."""
    if name in VERBS:
        _tell(name, VERBS[name])
    return VERBS.get(name, name)


def overrides(given: list[str]) -> list[str]:
    """A command line's overrides by today's names."""
    return [_override(text) for text in given]


def _override(text: str) -> str:
    sign, key, equals, value = re.fullmatch(r"([+~]*)([^=]*)(=?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    if key in RENAMED:
        key = _tell(key, RENAMED[key])
    values = value.split(",")  # of a sweep
    for nth, each in enumerate(values):
        if f"{key}={each}" in RENAMED:
            values[nth] = _tell(f"{key}={each}", RENAMED[f"{key}={each}"]).partition("=")[2]
    return f"{sign}{key}{equals}{','.join(values)}"


def renamed(plain: dict[str, Any]) -> dict[str, Any]:
    """A configuration by today's names. A former name wins over today's, whose value is then a default."""
    found = _with_protocol(copy.deepcopy(plain))
    for old, new in RENAMED.items():
        key, equals, value = old.partition("=")
        if "." not in key:
            key = f"{key}.{GROUPS[key].key}"
        group, _, name = key.partition(".")
        if group != new.partition(".")[0].partition("=")[0]:
            continue  # moved to another group, above
        section = found.get(group)
        if not isinstance(section, dict) or name not in section or (equals and _text(section[name]) != value):
            continue
        _tell(old, new)
        if equals:
            section[name] = new.partition("=")[2]
        else:
            section[new.partition(".")[2]] = section.pop(name)
    return found


def _text(value: Any) -> str:
    """As a command line has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _with_protocol(plain: dict[str, Any]) -> dict[str, Any]:
    """The protocol, once settings of the dataset, as a group of its own."""
    dataset = plain.get("dataset")
    if not isinstance(dataset, dict) or "protocol" not in dataset:
        return plain
    if "protocol" in plain:
        raise SeqrecError("dataset.protocol is now a group: write `override /protocol: NAME` among the defaults")
    name = dataset.pop("protocol")
    _tell("dataset.protocol", "protocol")
    settings = {"name": name} | NEUTRAL_PROTOCOL | {"seed": dataset["seed"]}
    settings["click_negatives"] = dataset.pop("click_negatives")
    share = dataset.pop("held_out_users")
    if "held_out_users" in config_class("protocol", name).model_fields:
        settings["held_out_users"] = share
    if dataset["source"] != "synthetic":  # whose process has a seed too
        del dataset["seed"]
    return {**plain, "protocol": settings}


def migrated(plain: dict[str, Any]) -> dict[str, Any]:
    """The plain record of a `train` run, as such a run would be recorded today."""
    found = renamed(plain)
    for group in {key.partition(".")[0] for key in BEFORE}:
        if isinstance(found.get(group), dict):
            _complete(group, found[group])
    found.setdefault("auto", {})  # before settings could be left to the data, all were numbers
    found.setdefault("start_from", None)
    _whole_batches(found)
    return found


def _complete(group: str, section: dict[str, Any]) -> None:
    """Add what was done before there was a setting; to an ensemble's members too."""
    fields = config_class(group, section[GROUPS[group].key]).model_fields if group in GROUPS else None
    for key, value in BEFORE.items():
        of_group, _, name = key.partition(".")
        if of_group == group and (fields is None or name in fields):
            section.setdefault(name, value)
    if group in GROUPS:
        for name, value in BEFORE_OF.get(section[GROUPS[group].key], {}).items():
            section.setdefault(name, copy.deepcopy(value))
    if group == "model":
        _complete_model(section)


def _complete_model(model: dict[str, Any]) -> None:
    if model["name"] == "bst":  # whose MLP dropped as its blocks did
        model.setdefault("mlp_dropout", model["dropout"])
    if isinstance(model.get("pooled"), bool):
        model["pooled"] = "mean" if model["pooled"] else "none"
    for member in model.get("members", {}).values():
        _complete("model", member)


def _whole_batches(found: dict[str, Any]) -> None:
    """Micro-batches that had statistics of their own: the run is read, and goes on, as one that takes batches whole."""
    model, trainer = found.get("model"), found.get("trainer")
    if not isinstance(model, dict) or not isinstance(trainer, dict) or trainer.get("micro_batch_tokens") is None:
        return
    cfg: Any = config_class("model", model["name"]).from_plain(model)
    if cfg.batch_statistics:
        of = " and ".join(cfg.batch_statistics)
        _tell(f"trainer.micro_batch_tokens={trainer['micro_batch_tokens']} of {of}", "trainer.micro_batch_tokens=null")
        trainer["micro_batch_tokens"] = None


@functools.cache
def _tell(old: str, new: str) -> str:
    print(f"{old} is now {new}", file=sys.stderr)
    return new
