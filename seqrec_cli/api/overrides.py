"""Settings as Python has them, as overrides of the command line."""

from collections.abc import Mapping
from typing import Any

from seqrec_cli.config.quoting import literal

NAMED = ("model", "objective", "protocol")  # groups whose option's name is the key `name` in them


def as_overrides(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`{"model": "bst", "trainer": {"lr": 0.01}}` as `["model=bst", "trainer.lr=0.01"]`; keys may be dotted too."""
    overrides = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            inner = dict(value)
            if name in NAMED and "name" in inner:
                overrides.append(f"{name}={literal(name, inner.pop('name'))}")
            overrides += as_overrides(inner, f"{name}.")
        else:
            overrides.append(f"{name}={literal(name, value)}")
    return overrides
