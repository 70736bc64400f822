"""A trial's settings as an experiment: a YAML file that `seqrec train experiment=NAME` takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from seqrec_cli.config.compose import choices, compose_raw
from seqrec_cli.files import write_atomically
from seqrec_cli.tuning.configs import TrialConfigs

GROUPS = ("dataset", "protocol", "model", "objective", "trainer")
# Of a run, not of a configuration.
PLACES = ("hydra", "hardware", "data_dir", "run_dir", "resume", "start_from", "auto")
DEFAULT = "# @package _global_\n{head}\ndefaults:\n{defaults}\n"


def write_experiment(path: Path, configs: TrialConfigs, settings: Mapping[str, Any], *, head: list[str]) -> None:
    """Groups, and the keys in which the configuration differs from those of its groups; `head` are comment lines.

    `path` is FOLDER/experiment/NAME.yaml, for --config-dir FOLDER.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [f"{key}={value}" for key, value in settings.items() if "." not in key]
    chosen = choices(compose_raw("train", [*configs.overrides, *options], configs.config_dir))
    defaults = "\n".join(f"  - override /{group}: {chosen[group]}" for group in GROUPS)
    text = DEFAULT.format(head="\n".join(f"# {line}".rstrip() for line in head), defaults=defaults)
    write_atomically(path, text)
    folders = [str(path.parents[1].absolute())]
    folders += [] if configs.config_dir is None else [str(Path(configs.config_dir).absolute())]
    search = ",".join("'file://{}'".format(folder.replace("'", r"\'")) for folder in folders)
    there = compose_raw("train", [f"experiment={path.stem}", f"hydra.searchpath=[{search}]"])
    wanted = OmegaConf.to_container(configs.tree(settings))
    assert isinstance(wanted, dict)
    found = _difference(OmegaConf.to_container(there), {key: each for key, each in wanted.items() if key not in PLACES})
    write_atomically(path, text + ("\n" + OmegaConf.to_yaml(OmegaConf.create(found)) if found else ""))


def _difference(before: Any, now: Mapping[Any, Any]) -> dict[str, Any]:
    """What of `now` is not so in `before`."""
    found: dict[str, Any] = {}
    for key, value in now.items():
        old = before.get(key) if isinstance(before, dict) else None
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := _difference(old, value):
                found[str(key)] = inner
        elif value != old or (isinstance(before, dict) and key not in before):
            found[str(key)] = value
    return found
