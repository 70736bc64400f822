"""What a resumed run is: the run's own configuration, and the few settings that may change half-way."""

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.migrations import migrated
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.validate import validate_plain
from seqrec_cli.reporting.run_folder import RunFolder

MAY_CHANGE = ("trainer.", "hardware.", "evaluation.", "data_dir", "dataset.archive")


def resumed(run: str, overrides: list[str]) -> Settings:
    """The record of the run in folder `run`, with this command line's overrides on top.

    Raises SeqrecError when there is no run, or when an override would change what was trained.
    """
    folder = RunFolder.open(run)
    tree = OmegaConf.create(migrated(folder.read_config()))
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if key == "resume":
            continue
        if override.is_sweep_override():
            raise SeqrecError(f"resume={run} goes on with one run; it cannot sweep {override.input_line}")
        if not key.startswith(MAY_CHANGE):
            raise SeqrecError(
                f"resume={run} keeps the run's own settings; leave out {override.input_line} "
                f"(may change: {', '.join(name + '*' if name.endswith('.') else name for name in MAY_CHANGE)})"
            )
        OmegaConf.update(tree, key, override.value(), force_add=True)  # validation refuses what is no key
    plain: dict[str, Any] = {**OmegaConf.to_container(tree), "resume": str(folder.path), "run_dir": None}  # type: ignore[dict-item]
    return validate_plain("train", plain)
