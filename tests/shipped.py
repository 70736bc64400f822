"""The numbers an option of `conf/` ships with, composed as a run composes them before it knows its data."""

import copy
import functools
from typing import Any

from omegaconf import OmegaConf

from seqrec_cli.config.auto import with_nominal
from seqrec_cli.config.compose import compose


def shipped(group: str, option: str) -> dict[str, Any]:
    """A fresh copy of the option's settings."""
    return copy.deepcopy(_composed(group, option))


@functools.cache
def _composed(group: str, option: str) -> dict[str, Any]:
    plain = OmegaConf.to_container(compose("train", [f"{group}={option}"]), resolve=True)
    assert isinstance(plain, dict)
    found = with_nominal(plain)[group]  # type: ignore[arg-type]
    assert isinstance(found, dict)
    return found
