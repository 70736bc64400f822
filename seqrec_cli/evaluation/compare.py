"""Every number carries its protocol; numbers obtained by different protocols are not put side by side."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from seqrec_cli.config.describe import value_in_words
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import view_of
from seqrec_cli.data.view import HeldOut
from seqrec_cli.protocols.view.meaning import meaning

PROTOCOL_KEY = "protocol"  # of a metric row
MEANING = "meaning"  # of a protocol: what follows from its other fields, and is said, not compared
FILTERS = ("min_rating", "user_core", "item_core", "duplicates")
NOT_THERE = "not there"
SHOWN_DIGITS = 12  # of a fingerprint
SEEN = {
    "remove": "removed: all before the target, whole history; targets that repeat one are left out",
    "keep": "kept: every item is ranked, and negatives are drawn from seen items too",
}


def protocol(
    log: PackedLog,
    split: HeldOut,
    *,
    max_length: int,
    monitor: str | None,
    sees_target_time: bool,
    ranked_users: int | None,
) -> dict[str, Any]:
    """By which protocol a metric row was obtained, as plain values.

    `monitor` is the validation metric that chose the checkpoint (None: nothing was chosen), `sees_target_time` whether
    the model read the time of the event it predicts, `ranked_users` how many requests were ranked (None: all). The hour
    and weekday that the dataset adds to requests are named beside it: a model told one is not one told both.
    """
    settings, view = log.manifest["settings"], view_of(log)
    asked = view.manifest
    return {
        "dataset": settings["name"],
        "fingerprint": log.fingerprint,
        "filters": {name: settings[name] for name in FILTERS},
        "split": split,
        "name": asked["name"],
        "held_out": asked["held_out"],
        "targets": asked["targets"][split],
        "items": log.num_items,
        "settings": asked["settings"],
        "counts": asked["splits"][split],
        MEANING: meaning(log, split),
        "candidates": "whole corpus" if view.candidates == "full" else view.candidates,
        "ranked_users": "all" if ranked_users is None else ranked_users,
        "seen_items": SEEN[view.seen],
        "equal_timestamps": log.manifest["order"] if asked["settings"]["ties"] == "file" else asked["settings"]["ties"],
        "clicks": asked["click_candidates"],
        "max_length": max_length,
        "time_context": list(log.time_context),
        "sees_target_time": sees_target_time,
        "chosen_by": monitor,
    }


def flat(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings by dotted keys."""
    found: dict[str, Any] = {}
    for name, value in plain.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The dotted keys at which two protocols differ, and both values for people: fingerprints by their first digits."""
    first, second = flat(one), flat(other)
    keys = [key for key in dict.fromkeys([*first, *second]) if first.get(key, NOT_THERE) != second.get(key, NOT_THERE)]
    return [(key, _shown(first.get(key, NOT_THERE)), _shown(second.get(key, NOT_THERE))) for key in keys]


def _shown(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32,}", value):
        return value[:SHOWN_DIGITS]
    return value_in_words(value)


def same_protocol(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None, may_differ: Sequence[str] = ()
) -> dict[str, Any]:
    """The protocol that all metric rows share; SeqrecError names every field in which the first two that differ do.

    Fields that `may_differ` are left out of it.
    """
    names = [f"metric row {number}" for number in range(1, len(rows) + 1)] if names is None else names
    if not rows:
        raise SeqrecError("nothing to compare; give at least one metric row")
    for name, row in zip(names, rows, strict=True):
        if PROTOCOL_KEY not in row:
            raise SeqrecError(f"{name} carries no protocol; evaluate the run again")
    first: dict[str, Any] = dict(rows[0][PROTOCOL_KEY])
    for name, row in zip(names[1:], rows[1:], strict=True):
        other = row[PROTOCOL_KEY]
        fields = [field for field in dict.fromkeys([*first, *other]) if field not in ("fingerprint", MEANING)]
        fields = [field for field in fields if field not in may_differ and first.get(field) != other.get(field)]
        if not fields and "fingerprint" not in may_differ and first["fingerprint"] != other["fingerprint"]:
            fields = ["fingerprint"]  # which any other difference changes too
        if fields:
            told = differing(*({field: each[field] for field in fields if field in each} for each in (first, other)))
            shown = ", ".join(f"{field} ({one} against {two})" for field, one, two in told)
            raise SeqrecError(
                f"{names[0]} and {name} differ in {shown} and are not comparable; evaluate both under one protocol"
            )
    return {field: value for field, value in first.items() if field not in may_differ}
