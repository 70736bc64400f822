"""Settings of a run that was resumed with others: each holds from a step on, and what has trained before stays written.

`config.yaml` is of the first step; the manifest's `resumed` lists what changed later: `[{"from_step": 500, "changed":
{"trainer.lr": 0.0005}}]`.
"""

import copy
from collections.abc import Iterator
from typing import Any

STRETCHES = "resumed"  # of the manifest
NOT_SETTINGS = ("run_dir", "resume")


def with_stretches(config: dict[str, Any], stretches: list[dict[str, Any]]) -> dict[str, Any]:
    """The settings as they are after all stretches."""
    found = copy.deepcopy(config)
    for stretch in stretches:
        for name, value in stretch["changed"].items():
            *groups, last = name.split(".")
            inner = found
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[last] = value
    return found


def stretches_with(
    first: dict[str, Any], stretches: list[dict[str, Any]], now: dict[str, Any], *, step: int
) -> list[dict[str, Any]]:
    """The stretches of a run that goes on after `step` with the settings `now`.

    Steps after the last checkpoint are taken again, so what was to hold from there on has trained nothing.
    """
    kept = [stretch for stretch in stretches if stretch["from_step"] < step]
    before, after = dict(_leaves(with_stretches(first, kept))), dict(_leaves(now))
    changed = {name: value for name, value in after.items() if name not in before or before[name] != value}
    return [*kept, {"from_step": step, "changed": changed}] if changed else kept


def _leaves(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        elif f"{prefix}{name}" not in NOT_SETTINGS:
            yield prefix + name, value
