"""Settings written `auto` (or `fast`, `thorough`): found in a configuration, and replaced by numbers.

A configuration is checked before the data are known, with the rule's numbers for a log of middling size; `auto` holds
the names of those settings until the data have settled them (`commands/settle.py`). In a sealed one it is empty.
"""

import copy
from collections.abc import Iterator
from typing import Any

from seqrec_cli.config.auto_rule import (
    NOMINAL,
    OF_EVALUATION,
    OF_MODEL,
    OF_OBJECTIVE,
    OF_TRAINER,
    SAME,
    Facts,
    Settled,
    Word,
    words_for,
)

GROUPS = (("objective", OF_OBJECTIVE), ("trainer", OF_TRAINER), ("evaluation", OF_EVALUATION))


def with_nominal(plain: dict[str, Any]) -> dict[str, Any]:
    """A plain configuration of `train` whose words are numbers, and told in `auto`. One without words as it is."""
    if not isinstance(plain.get("objective"), dict) or not isinstance(plain.get("model"), dict):
        return plain
    words = dict(_words(plain))
    return settled(plain, words, NOMINAL) | {"auto": words} if words else plain


def settled(plain: dict[str, Any], words: dict[str, Word], facts: Facts) -> dict[str, Any]:
    """The same with the numbers that the rule gives these settings, and none left to settle."""
    found = copy.deepcopy(plain) | {"auto": {}}
    rule = Settled(found, facts, words)
    for path, section in _models(found["model"], "model"):
        for name in section:
            if f"{path}.{name}" in words:
                section[name] = None
        for name in (*OF_MODEL, *SAME):
            if f"{path}.{name}" in words:
                section[name] = getattr(rule, SAME.get(name, name))(section)
    for group, names in GROUPS:
        for name in names:
            if f"{group}.{name}" in words:
                found[group][name] = getattr(rule, name)()
    return found


def _words(plain: dict[str, Any]) -> Iterator[tuple[str, Word]]:
    for path, section in _models(plain["model"], "model"):
        yield from _of(section, path, (*OF_MODEL, *SAME))
    for group, names in GROUPS:
        yield from _of(plain.get(group), group, names)


def _of(section: Any, path: str, names: tuple[str, ...]) -> Iterator[tuple[str, Word]]:
    for name in names if isinstance(section, dict) else ():
        key = f"{path}.{name}"
        if isinstance(section.get(name), str) and section[name] in words_for(key):
            yield key, section[name]


def _models(model: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A model's settings, and those of an ensemble's members."""
    yield path, model
    for key, member in (model.get("members") or {}).items():
        if isinstance(member, dict):
            yield from _models(member, f"{path}.members.{key}")
