"""Every number carries its protocol; numbers obtained by different protocols are not put side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import HeldOut

PROTOCOL_KEY = "protocol"  # of a metric row
FILTERS = ("min_rating", "user_core", "item_core", "duplicates")
CLICKS = ("protocol", "click_negatives", "seed")


def protocol(
    log: PackedLog,
    split: HeldOut,
    max_length: int,
    monitor: str | None,
    sees_target_time: bool,
    ranked_users: int | None,
) -> dict[str, Any]:
    """By which protocol a metric row was obtained, as plain values.

    `monitor` is the validation metric that chose the checkpoint (None: nothing was chosen), `sees_target_time` whether
    the model read the time of the event it predicts, `ranked_users` how many users were ranked (None: all).
    """
    settings = log.manifest["settings"]
    return {
        "dataset": settings["name"],
        "fingerprint": log.fingerprint,
        "filters": {name: settings[name] for name in FILTERS},
        "split": split,
        "held_out": log.manifest["split"],
        "candidates": "whole corpus",
        "ranked_users": "all" if ranked_users is None else ranked_users,
        "seen_items": "removed: all before the target, whole history",
        "equal_timestamps": log.manifest["order"],
        "clicks": {name: settings[name] for name in CLICKS},
        "max_length": max_length,
        "sees_target_time": sees_target_time,
        "chosen_by": monitor,
    }


def same_protocol(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The protocol that all metric rows share; SeqrecError names the first field in which one differs."""
    if not rows:
        raise SeqrecError("nothing to compare; give at least one metric row")
    for number, row in enumerate(rows, 1):
        if PROTOCOL_KEY not in row:
            raise SeqrecError(f"metric row {number} carries no protocol; evaluate the run again")
    first: dict[str, Any] = dict(rows[0][PROTOCOL_KEY])
    for number, row in enumerate(rows[1:], 2):
        other = row[PROTOCOL_KEY]
        for field in dict.fromkeys([*first, *other]):
            if first.get(field) != other.get(field):
                raise SeqrecError(
                    f"metric rows 1 and {number} differ in {field} ({first.get(field)!r} against "
                    f"{other.get(field)!r}) and are not comparable; evaluate both under one protocol"
                )
    return first
