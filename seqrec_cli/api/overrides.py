"""Settings as Python has them, as overrides of the command line."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqrec_cli.config.errors import SeqrecError

PLAIN = re.compile(r"[A-Za-z_][\w./+-]*")  # text that needs no quotes in an override
OTHERWISE = {"true", "false", "null", "inf", "nan"}  # but these mean something else there
NAMED = ("model", "objective", "protocol")  # groups whose option's name is the key `name` in them


def as_overrides(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`{"model": "bst", "trainer": {"lr": 0.01}}` as `["model=bst", "trainer.lr=0.01"]`; keys may be dotted too."""
    overrides = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            inner = dict(value)
            if name in NAMED and "name" in inner:
                overrides.append(f"{name}={_literal(name, inner.pop('name'))}")
            overrides += as_overrides(inner, f"{name}.")
        else:
            overrides.append(f"{name}={_literal(name, value)}")
    return overrides


def _literal(key: str, value: Any) -> str:
    """A value in the grammar of overrides."""
    if hasattr(value, "item") and not isinstance(value, str):  # a NumPy number
        value = value.item()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        text = str(value)
        if PLAIN.fullmatch(text) and text.lower() not in OTHERWISE:
            return text
        escaped = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), text)
        return f"'{escaped}'"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_literal(key, each)}:{_literal(key, of)}" for each, of in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(_literal(key, each) for each in value) + "]"
    raise SeqrecError(f"{key}: a {type(value).__name__} is no setting; give a number, text, a list or None")
