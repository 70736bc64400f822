"""What decides a number's meaning beside its protocol: who and what is left out, and how sure the order is.

It follows from the data and the protocol, so it is said with every number and compared with none.

Legend: N events, T targets.
"""

from typing import Any

import numpy as np

from seqrec_cli.config.registry import config_class
from seqrec_cli.data.blocks import user_blocks
from seqrec_cli.data.filters import LABELS
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import view_of
from seqrec_cli.data.view import HeldOut, Targets

TIED = "targets_in_ties"  # of a view's manifest, by split


def meaning(log: PackedLog, split: HeldOut) -> dict[str, Any]:
    """Plain values: `share_seen_before` and `share_never_trained` of the targets, `targets_in_ties` (another order of
    equal times could ask for other items), `users` and how many of them have no target though every user should,
    pairs of neighbours of `equal_times` and those that `dataset.order_columns` order, and the rows that filters left
    out, by filter."""
    view = view_of(log)
    counts, made = view.manifest["splits"][split], view.manifest.get(TIED)
    by_design = config_class("protocol", view.manifest["name"]).splits_users  # type: ignore[attr-defined]
    filters = log.manifest.get("filters", [])
    left_out = {row["filter"]: row["removed_events"] for row in filters[1:] if row["filter"] != LABELS}
    return {
        "share_seen_before": counts["repeated_targets"] / max(counts["held_out_targets"], 1),
        "share_never_trained": counts["cold_targets"] / max(counts["targets"], 1),
        TIED: made[split] if made else targets_in_ties(log, view.targets(split)),
        "users": log.num_users,
        "users_without_target": 0 if by_design else log.num_users - counts["users"],
        "equal_times": log.manifest.get("equal_times", 0),
        "ordered_ties": log.manifest.get("ordered_ties", 0),
        "rows": filters[0]["events"] if filters else len(log.items_N),
        "rows_left_out": {name: removed for name, removed in left_out.items() if removed},
    }


def targets_in_ties(log: PackedLog, targets: Targets) -> int:
    """How many targets nothing but the file tells from other items of their user and time."""
    if log.tied_N is None and log.times_N is None:
        return 0
    positions_T = np.sort(np.asarray(targets.positions_T))
    found = 0
    for users, events in user_blocks(log.offsets_U1):  # whose first event ties with none before it
        tied_N, items_N = log.ties_of(users), np.asarray(log.items_N[events])
        first, last = np.searchsorted(positions_T, (events.start, events.stop))
        if last == first or not tied_N.any():
            continue
        run_N = np.cumsum(~tied_N) - 1
        other_N = np.zeros(len(items_N), bool)
        other_N[1:] = tied_N[1:] & (items_N[1:] != items_N[:-1])
        mixed = np.zeros(int(run_N[-1]) + 1, bool)
        mixed[run_N[other_N]] = True
        found += int(mixed[run_N[positions_T[first:last] - events.start]].sum())
    return found
