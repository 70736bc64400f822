"""From a verb and its overrides to one configuration tree, through Hydra's compose API."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from seqrec_cli.config import migrations
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.hydra_errors import as_seqrec_error
from seqrec_cli.config.quoting import paths_as_they_are
from seqrec_cli.config.verbs import Verb, verb_named

PACKAGE = Path(__file__).resolve().parents[1]
SHARED = "shared"  # the folder of what several files of `conf/` have in common: options of no group


def conf_folder() -> Path:
    """The folder of YAML files: inside the package when installed from a wheel, else beside it in a checkout."""
    for folder in (PACKAGE / "conf", PACKAGE.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise SeqrecError(f"no conf/ folder in or beside {PACKAGE}: reinstall seqrec")


def groups(config_dir: str | None = None) -> dict[str, list[str]]:
    """Every group and its options, sorted: the YAML files of `conf/` and of `--config-dir`."""
    found: dict[str, set[str]] = {}
    for folder in [conf_folder(), *([Path(config_dir)] if config_dir else [])]:
        for path in sorted(folder.glob("*/*.yaml")):
            if path.parent.name != SHARED:
                found.setdefault(path.parent.name, set()).add(path.stem)
    return {group: sorted(options) for group, options in sorted(found.items())}


def launchers() -> list[str]:
    """The options of `hydra/launcher`: ours, and Hydra's own."""
    return sorted({"basic", *(path.stem for path in launcher_folder().glob("*.yaml"))})


def launcher_folder() -> Path:
    """The presets of launchers."""
    return conf_folder() / "hydra" / "launcher"


def prefer_own_launchers() -> None:
    """`hydra/launcher=joblib` is our file of that name, not the plugin's record, which Hydra would merge and warn of.

    For this process: workers of a launcher get its state.
    """
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    Plugins.instance()  # they register their records
    stored = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for path in launcher_folder().glob("*.yaml"):
        stored.pop(path.name, None)


@contextmanager
def unchanged_hydra() -> Iterator[None]:
    """Hydra's singletons and OmegaConf's resolvers are afterwards as before: a caller may use Hydra for itself."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.singleton import Singleton
    from hydra.core.utils import JobRuntime
    from hydra.version import VersionBase
    from omegaconf.basecontainer import BaseContainer

    resolvers = dict(BaseContainer._resolvers)
    kinds = (HydraConfig, JobRuntime, VersionBase)  # whose values change
    before: dict[type, Singleton] = {
        kind: Singleton._instances.pop(kind) for kind in kinds if kind in Singleton._instances
    }
    try:
        yield
    finally:
        for kind in kinds:
            Singleton._instances.pop(kind, None)
        Singleton._instances.update(before)
        BaseContainer._resolvers = resolvers


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Hydra's global state, ours for a while: a job of a running `hydra.main` may compose too."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.singleton import Singleton
    from hydra.core.utils import JobRuntime

    before = Singleton._instances.pop(GlobalHydra, None)
    try:
        initialize_config_dir(str(conf_folder()), JobRuntime.instance().get("name"), version_base="1.3")
        yield
    finally:
        Singleton._instances.pop(GlobalHydra, None)
        if before is not None:
            Singleton._instances[GlobalHydra] = before


def compose_raw(verb: str, overrides: list[str], config_dir: str | None = None) -> DictConfig:
    """The verb's configuration with Hydra's own node in it. Hydra's errors pass through."""
    from hydra import compose as hydra_compose

    extra = []
    if config_dir is not None:
        folder = str(Path(config_dir).absolute()).replace("'", r"\'")
        extra = [f"hydra.searchpath=['file://{folder}']"]
    with _own_hydra():
        return hydra_compose(verb, [*overrides, *extra], return_hydra_config=True)


def in_full(verb: Verb, overrides: list[str]) -> list[str]:
    """A command line's overrides as Hydra takes them: with their keys, by today's names, paths quoted."""
    given = migrations.overrides(paths_as_they_are(verb.all_in_full(overrides)))
    if not any(text.startswith(("start_from=", "resume=")) and not text.endswith("=null") for text in given):
        return given
    # They are settings of that run, whose dataset and model Hydra does not know: it is to take them as they are.
    return [f"++{text}" if re.match(r"\w+\.", text) else text for text in given]


def compose(verb: str, overrides: list[str], config_dir: str | None = None) -> DictConfig:
    """The verb's configuration: `conf/VERB.yaml`, its groups, and the overrides on top.

    Raises `SeqrecError` on an unknown verb, group, option or key, and on an override that cannot be read.
    """
    known_verb = verb_named(migrations.verb(verb))
    verb, overrides = known_verb.name, in_full(known_verb, overrides)
    try:
        cfg = compose_raw(verb, overrides, config_dir)
    except Exception as error:
        known = as_seqrec_error(error, overrides, lambda fewer: compose_raw(verb, fewer, config_dir))
        if known is None:
            raise
        raise known from error
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def choices(cfg: DictConfig) -> dict[str, Any]:
    """The option each of the verb's own groups has, from a tree with Hydra's node in it (`compose_raw`)."""
    chosen = cfg.hydra.runtime.choices
    return {group: chosen[group] for group in chosen if not str(group).startswith("hydra/")}
