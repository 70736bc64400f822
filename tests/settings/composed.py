"""The record of a command line and one more override: Hydra takes long, so what it composed is kept."""

import copy
import functools

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from seqrec_cli.config.compose import compose
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.unused import refuse_unused
from seqrec_cli.config.validate import validate


@functools.cache
def _composed(groups: tuple[str, ...]) -> DictConfig:
    return compose("train", list(groups))


@functools.cache
def _parsed(text: str) -> Override:
    return OverridesParser.create().parse_override(text)


@functools.lru_cache(maxsize=4)
def _tree(overrides: tuple[str, ...]) -> DictConfig:
    groups = tuple(text for text in overrides if _is_group(text))
    tree = copy.deepcopy(_composed(groups))
    for text in overrides:
        if not _is_group(text):
            _set(tree, text)
    return tree


def _is_group(override: str) -> bool:
    return "." not in override.partition("=")[0]


def _set(tree: DictConfig, override: str) -> None:
    parsed = _parsed(override)
    OmegaConf.update(tree, parsed.key_or_group, parsed.value())


def record(overrides: tuple[str, ...], change: str | None, folders: dict[str, str]) -> TrainConfig:
    """What the command line makes of the overrides and one more, with these folders of data and run.

    Hydra takes long: the tree of the overrides is kept for the next runs, which differ in the change.
    """
    tree, before = _tree(overrides), None
    if change is not None:
        section, _, key = change.partition("=")[0].rpartition(".")
        holder = OmegaConf.select(tree, section)
        before = copy.deepcopy(holder._get_node(key))
        _set(tree, change)
    try:
        tree.update(folders)
        made = validate("train", tree)
    finally:
        if change is not None:
            holder._set_item_impl(key, before)
    refuse_unused(made, [*overrides, change or ""])
    assert isinstance(made, TrainConfig)
    return made
