"""What a run is that goes on, or begins with another one: that run's configuration, and what may change of it."""

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from seqrec_cli.config.auto import with_nominal
from seqrec_cli.config.compose import compose, groups
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.migrations import migrated
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.validate import validate_plain
from seqrec_cli.reporting.run_folder import RunFolder

MAY_CHANGE = ("trainer.", "hardware.", "evaluation.", "data_dir", "dataset.archive")
MAY_DIFFER = (*MAY_CHANGE, "dataset.", "protocol.", "objective.", "run_dir")  # of a run that begins with another
GROUPS_MAY_DIFFER = ("trainer", "hardware", "protocol", "objective")


def resumed(run: str, overrides: list[str]) -> Settings:
    """The record of the run in folder `run`, with this command line's overrides on top.

    Raises SeqrecError when there is no run, or when an override would change what was trained.
    """
    folder = RunFolder.open(run)
    tree = OmegaConf.create(migrated(folder.read_config()))
    _override(tree, overrides, f"resume={run}", may=MAY_CHANGE, groups_may=())
    plain: dict[str, Any] = {**OmegaConf.to_container(tree), "resume": str(folder.path), "run_dir": None}  # type: ignore[dict-item]
    return validate_plain("train", plain)


def started(run: str, verb: str, overrides: list[str]) -> Settings:
    """The record of a new run that begins with the run in folder `run`: its settings, with the overrides on top.

    Raises SeqrecError when there is no run, or when an override would change the model, whose weights are to fit.
    """
    folder = RunFolder.open(run)
    tree = OmegaConf.create(migrated(folder.read_config()))
    tree.run_dir = None
    _override(tree, overrides, f"start_from={run}", may=MAY_DIFFER, groups_may=GROUPS_MAY_DIFFER)
    plain: dict[str, Any] = {**OmegaConf.to_container(tree), "resume": None, "start_from": str(folder.path)}  # type: ignore[dict-item]
    return validate_plain(verb, with_nominal(plain))


def _override(
    tree: DictConfig, overrides: list[str], of: str, *, may: tuple[str, ...], groups_may: tuple[str, ...]
) -> None:
    """Put each override into the tree; the setting `of` itself is skipped."""
    known = groups()
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if key == of.partition("=")[0]:
            continue
        if override.is_sweep_override():
            raise SeqrecError(f"{of} is one run; it cannot sweep {override.input_line}")
        if key in known and key in groups_may:
            OmegaConf.update(tree, key, compose("train", [str(override.input_line)])[key], merge=False)
        elif key.startswith(may):
            OmegaConf.update(tree, key, override.value(), force_add=True)  # validation refuses what is no key
        else:
            shown = ", ".join([*groups_may, *(name + "*" if name.endswith(".") else name for name in may)])
            given = str(override.input_line).lstrip("+")
            raise SeqrecError(f"{of} keeps the run's own settings; leave out {given} (may change: {shown})")
