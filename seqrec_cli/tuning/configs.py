"""From a trial's settings to the configuration of its run, and whether a space fits the configurations it is for."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from seqrec_cli.config.auto import with_nominal
from seqrec_cli.config.compose import compose, groups
from seqrec_cli.config.describe import errors_in_words, keys_of, value_in_words
from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.quoting import literal
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.tuning import SpaceEntry
from seqrec_cli.config.validate import validate
from seqrec_cli.evaluation.compare import flat
from seqrec_cli.tuning.space import Space, combinations, ends_of

SEARCHED = ("model", "objective", "trainer")  # groups whose options and keys may be searched; the others say what
# is measured, on which data: trials that differ in those cannot be compared.
FIXED = ("model.name", "objective.name", "trainer.monitor", "trainer.seed", "trainer.seeds", "trainer.minutes")


@dataclass
class TrialConfigs:
    """What `seqrec train` composes of the study's own overrides and a trial's settings."""

    overrides: list[str]  # of `train`
    config_dir: str | None
    trees: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)  # by options of groups: composing takes long

    def tree(self, settings: Mapping[str, Any]) -> DictConfig:
        """Not validated yet; what is interpolated follows the settings, as it does on a command line."""
        options = tuple(f"{key}={literal(key, value)}" for key, value in settings.items() if "." not in key)
        if options not in self.trees:
            self.trees[options] = compose("train", [*self.overrides, *options], self.config_dir)
        tree = copy.deepcopy(self.trees[options])
        for key, value in settings.items():
            if "." in key or key == "run_dir":
                OmegaConf.update(tree, key, value, merge=False)
        return tree

    def record(self, settings: Mapping[str, Any]) -> TrainConfig:
        """Validated. Raises SeqrecError where the settings do not go together."""
        found = validate("train", self.tree(settings))
        assert isinstance(found, TrainConfig)
        return found

    def plain(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Plain values, with numbers for what the data will settle."""
        plain = OmegaConf.to_container(self.tree(settings), resolve=True)
        assert isinstance(plain, dict)
        return with_nominal(plain)  # type: ignore[arg-type]


def base_values(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What conditions of a space may name: every setting by its dotted key, and the options of groups."""
    return flat(plain) | {group: plain[group]["name"] for group in ("model", "objective")}


def without_given(
    entries: Mapping[str, SpaceEntry], overrides: Sequence[str]
) -> tuple[dict[str, SpaceEntry], list[str]]:
    """The entries but for settings that the command line gives a value, and those settings."""
    given = {text.lstrip("+~").partition("=")[0] for text in overrides}
    fixed = [key for key in entries if key in given]
    return {key: entry for key, entry in entries.items() if key not in given}, fixed


def check_space(space: Space, configs: TrialConfigs) -> None:
    """Raises SeqrecError for the first entry that names no setting, or a value that the setting cannot have."""
    if not space.entries:
        raise SeqrecError("the space is empty: every setting of it is given on the command line, or it has none")
    options = _options(space)
    tried = set()
    for chosen in combinations(options):
        chosen = {key: value for key, value in chosen.items() if space.applies(key, chosen)}
        if tuple(chosen.items()) in tried:
            continue
        tried.add(tuple(chosen.items()))
        plain = configs.plain(chosen)
        for key, entry in space.entries.items():
            if key not in options and _may_apply(space, key, chosen):
                _check_entry(key, entry, plain, chosen=chosen)


def _options(space: Space) -> dict[str, list[Any]]:
    """The entries that choose options of groups. Raises SeqrecError for keys that are not searched."""
    found = {}
    known = groups()
    for key, entry in space.entries.items():
        group, dot, _ = key.partition(".")
        if group not in SEARCHED or key in FIXED:
            why = "chosen by its group" if key.endswith(".name") else "the same in all trials, or they do not compare"
            hint = nearest(key, SEARCHED) if not dot else ""
            raise SeqrecError(f"space: {key} is not searched{hint}; it is {why} (searched: {', '.join(SEARCHED)})")
        if not dot:
            if entry.type != "choice":
                raise SeqrecError(f"space: {key} is a group; give it type: choice with names of options")
            for value in entry.values or ():
                if value not in known[group]:
                    raise SeqrecError(
                        f"space: {key}={value_in_words(value)}: no such option{nearest(str(value), known[group])}"
                    )
            found[key] = list(entry.values or ())
    return found


def _may_apply(space: Space, key: str, chosen: Mapping[str, Any]) -> bool:
    """Whether some settings beside these options let an entry apply."""
    for other, wanted in (space.entries[key].when or {}).items():
        several = wanted if isinstance(wanted, tuple) else (wanted,)
        if other in chosen:
            if chosen[other] not in several:
                return False
        elif other in space.entries:
            if not _may_apply(space, other, chosen):
                return False
        elif space.base[other] not in several and space.base[other] != wanted:
            return False
    return True


def _check_entry(key: str, entry: SpaceEntry, plain: dict[str, Any], *, chosen: Mapping[str, Any]) -> None:
    beside = "".join(f" with {group}={option}" for group, option in chosen.items())
    for value in ends_of(entry):
        tree = copy.deepcopy(plain)
        *path, name = key.split(".")
        node: Any = tree
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict) or name not in node:
            names = [each.name for each in keys_of(TrainConfig, plain) if each.name.startswith(f"{path[0]}.")]
            when = "; an entry that needs another option says so: when: {objective: ...}" if chosen else ""
            raise SeqrecError(f"space: {key}: no such key{nearest(key, names)}{beside}{when}")
        node[name] = value
        try:
            TrainConfig.from_plain(tree)
        except ValidationError as error:
            # Rules between settings are a trial's own business: another value beside it may mend them.
            own = [each for each in error.errors() if [*map(str, each["loc"])][: len(path) + 1] == [*path, name]]
            if any(each["type"] != "value_error" for each in own):
                said = next(line for line in errors_in_words(error, TrainConfig, tree) if line.startswith(key))
                raise SeqrecError(f"space: {said}{beside}") from error
