"""The options that are code: which names a group has, and the modules they stand for.

A name is a file of the group's folder, so no setting can reach any other module. A model's or objective's `Config`
has a file without torch (`config/model/sasrec.py`) beside the file of its code (`models/sasrec.py`): a wrong setting is
refused, explained and completed without waiting seconds for torch. A dataset needs no torch, and has one file for both.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from seqrec_cli.config.errors import SeqrecError, nearest

if TYPE_CHECKING:
    from seqrec_cli.config.settings import Option

PACKAGE = Path(__file__).resolve().parents[1]


class Group(NamedTuple):
    """A group of options that are code."""

    key: str  # the setting that holds an option's name
    configs: str  # the folder with a `Config` for every option
    code: str  # the folder with what the option does


GROUPS = {
    "dataset": Group("source", "data.sources", "data.sources"),
    "protocol": Group("name", "protocols", "protocols"),
    "model": Group("name", "config.model", "models"),
    "objective": Group("name", "config.objective", "objectives"),
}


def names(group: str) -> tuple[str, ...]:
    """The registered names of a group, sorted."""
    folder = PACKAGE.joinpath(*GROUPS[group].configs.split("."))
    return tuple(sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__"))


def config_class(group: str, name: str) -> "type[Option]":
    """The `Config` of an option."""
    found: type[Option] = _module(group, name, GROUPS[group].configs).Config
    return found


def code_of(group: str, name: str) -> ModuleType:
    """The module of an option's code: a dataset's `read`, a `Model`, an `Objective`."""
    return _module(group, name, GROUPS[group].code)


def _module(group: str, name: str, folder: str) -> ModuleType:
    known, key = names(group), GROUPS[group].key
    if name not in known:
        raise SeqrecError(f"no such {key}{nearest(name, known)} (have: {', '.join(known)})")
    return importlib.import_module(f"seqrec_cli.{folder}.{name}")
