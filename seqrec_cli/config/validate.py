"""From a configuration tree to the verb's frozen record, and back to plain values.

After that nothing reads the tree any more: a value that is wrong by type, range or rule has been refused.
"""

import functools
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from seqrec_cli.config.auto import with_nominal
from seqrec_cli.config.compose import compose, conf_folder
from seqrec_cli.config.describe import errors_in_words, keys_of, missing_in_words, value_in_words
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.hydra_errors import one_line
from seqrec_cli.config.migrations import renamed
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.verbs import verb_named


def validate(verb: str, cfg: DictConfig) -> Settings:
    """The verb's record, with dataset, model and objective as their own `Config` classes.

    Raises `SeqrecError`: one line with the first problem, by its dotted key, and the number of others.
    """
    try:
        missing = sorted(missing_keys(OmegaConf.to_container(cfg)))
        if missing:
            keys = {key.name: key for key in keys_of(verb_named(verb).settings(), OmegaConf.to_container(cfg))}
            _refuse([missing_in_words(name, keys.get(name)) for name in missing])
        plain = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        where = f"{error.full_key}: " if error.full_key else ""
        raise SeqrecError(where + one_line(str(error).splitlines()[0])) from error
    assert isinstance(plain, dict)
    record = validate_plain(verb, with_nominal(renamed(plain)))  # type: ignore[arg-type]
    options = {group: getattr(record, group, None) for group in ("dataset", "model", "objective")}
    _refuse([told for group, option in options.items() for told in _idle(option, group)])
    return record


def _idle(option: Any, where: str) -> Iterator[str]:
    """Settings of an option that were changed though another one leaves them without a use."""
    for name, member in getattr(option, "members", {}).items():
        yield from _idle(member, f"{where}.members.{name}")
    for name, why in getattr(option, "idle", {}).items():
        value, given = getattr(option, name), shipped(option.group, option.name)[name]
        value = list(value) if isinstance(value, tuple) else value
        if value != given:
            yield (
                f"{where}.{name}={value_in_words(value)} has no effect with {why.replace(option.group, where, 1)}; "
                f"leave it at {value_in_words(given)}, or change the other"
            )


@functools.cache
def shipped(group: str, name: str) -> dict[str, Any]:
    """The settings that an option comes with; of a dataset, whose name is its user's own, those that all have alike."""
    if group == "dataset":  # one small file: composing costs a third of a second at every start
        tree = OmegaConf.load(conf_folder() / "shared" / "dataset.yaml")
    else:
        tree = compose("train", [f"{group}={name}"])[group]
    found = OmegaConf.to_container(tree, resolve=True)
    assert isinstance(found, dict)
    return found  # type: ignore[return-value]


def missing_keys(plain: Any, prefix: str = "") -> Iterator[str]:
    """Keys of an unresolved tree that must still be given; what is interpolated from them is not asked for."""
    for name, value in plain.items() if isinstance(plain, dict) else ():
        if value == "???":
            yield f"{prefix}{name}"
        yield from missing_keys(value, f"{prefix}{name}.")


def validate_plain(verb: str, plain: Any) -> Settings:
    """The verb's record from plain values, as `dump` gave them. Raises as `validate` does."""
    record = verb_named(verb).settings()
    if not isinstance(plain, dict):
        raise SeqrecError(f"the configuration of {verb} is no mapping of keys to values")
    try:
        return record.from_plain(plain)
    except ValidationError as error:
        _refuse(errors_in_words(error, record, plain))
        raise


def dump(record: Settings) -> dict[str, Any]:
    """Plain values (mappings, lists, text, numbers) for YAML or JSON; `validate_plain` gives the record again."""
    return record.model_dump(mode="json")


def _refuse(problems: list[str]) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise SeqrecError(one_line(problems[0]) + more)
