"""Which events stay: duplicates, low ratings, users and items with too few events. Every step is counted.

Legend: N events in file order, K events that stay.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.raw import RawLog

LABELS = "label_column=1"  # the filter that leaves the clicks among the log's own labels


def repeats(users_N: np.ndarray, items_N: np.ndarray, times_N: np.ndarray | None) -> np.ndarray:
    """True at events whose user, item and time (user and item, in a log without times) are those of an earlier row.

    Users and items are codes from 0.
    """
    pairs_N = users_N * (int(items_N.max(initial=0)) + 1) + items_N
    order_N = np.argsort(pairs_N)
    sorted_N = pairs_N[order_N]
    alike_N = np.concatenate([[False], sorted_N[1:] == sorted_N[:-1]])
    suspects = np.sort(order_N[alike_N | np.append(alike_N[1:], False)])  # in the order of the file
    found_N = np.zeros(len(pairs_N), bool)
    keys = [pairs_N[suspects]] if times_N is None else [times_N[suspects], pairs_N[suspects]]
    order = suspects[np.lexsort(keys)]  # stable: an earlier row comes before its repeats
    same = pairs_N[order[1:]] == pairs_N[order[:-1]]
    if times_N is not None:
        same &= times_N[order[1:]] == times_N[order[:-1]]
    found_N[order[1:][same]] = True
    return found_N


def core(users_N: np.ndarray, items_N: np.ndarray, *, user_core: int, item_core: int) -> np.ndarray:
    """Events left by the iterative k-core: users and items below their least count fall, until none does."""
    stay_N = np.ones(len(users_N), bool)
    while True:
        few_users = np.bincount(users_N[stay_N], minlength=int(users_N.max(initial=0)) + 1) < user_core
        few_items = np.bincount(items_N[stay_N], minlength=int(items_N.max(initial=0)) + 1) < item_core
        left_N = stay_N & ~few_users[users_N] & ~few_items[items_N]
        if left_N.sum() == stay_N.sum():
            return stay_N
        stay_N = left_N


def _steps(
    cfg: DatasetConfig, raw: RawLog, users_N: np.ndarray, *, items_N: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Each filter's name and the positions in the file of the events it leaves."""
    repeated_N = repeats(users_N, items_N, raw.times_N)
    count = int(repeated_N.sum())
    if count and cfg.duplicates == "error":
        first = int(np.argmax(repeated_N))
        place = f"row {first + 1}" if raw.place is None else raw.place(first)
        raise SeqrecError(repeats_refused(count, place, timed=raw.times_N is not None))
    kept_K = np.flatnonzero(~repeated_N) if cfg.duplicates == "drop" else np.arange(len(users_N))
    yield f"duplicates={cfg.duplicates}", kept_K
    if raw.labels_N is not None:
        kept_K = kept_K[raw.labels_N[kept_K]]
        yield LABELS, kept_K
    if cfg.min_rating is not None:
        if raw.ratings_N is None:
            raise SeqrecError(without_ratings(cfg.min_rating))
        kept_K = kept_K[raw.ratings_N[kept_K] >= cfg.min_rating]
        yield f"min_rating={cfg.min_rating}", kept_K
    if cfg.user_core or cfg.item_core:
        kept_K = kept_K[core(users_N[kept_K], items_N[kept_K], user_core=cfg.user_core, item_core=cfg.item_core)]
        yield f"user_core={cfg.user_core} item_core={cfg.item_core}", kept_K


def apply_filters(
    cfg: DatasetConfig, raw: RawLog, users_N: np.ndarray, *, items_N: np.ndarray
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The positions [K] of the events that stay, in file order, and a row of counts for the raw log and each filter.

    Users and items are codes from 0. Raises SeqrecError on duplicates (where refused) and on an empty result.
    """
    if not len(users_N):
        raise SeqrecError("the raw log holds no events")
    steps = Steps("raw", events=len(users_N), users=_distinct(users_N), items=_distinct(items_N))
    for name, kept_K in _steps(cfg, raw, users_N, items_N=items_N):
        users, items = _distinct(users_N[kept_K]), _distinct(items_N[kept_K])
        steps.add(name, events=len(kept_K), users=users, items=items)
    return kept_K, steps.rows


class Steps:
    """A row of counts for the raw log and each filter: how many events, users and items it left, and removed."""

    def __init__(self, name: str, *, events: int, users: int, items: int) -> None:
        self.rows: list[dict[str, Any]] = [{"filter": name, "events": events, "users": users, "items": items}]

    def add(self, name: str, *, events: int, users: int, items: int) -> None:
        """What a filter left. Raises SeqrecError where that is nothing."""
        before, after = self.rows[-1], {"filter": name, "events": events, "users": users, "items": items}
        removed = {f"removed_{kind}": before[kind] - after[kind] for kind in ("events", "users", "items")}
        self.rows.append(after | removed)
        if not events:
            raise SeqrecError(f"no events are left after dataset.{name} ({before['events']} before it); loosen it")


def removed_said(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What filters removed, in words; not the choice of clicks among labelled rows."""
    found = []
    for row in rows[1:]:
        if row["removed_events"] and not row["filter"].startswith(LABELS):
            gone = ", ".join(f"{row[f'removed_{kind}']:,} {kind}" for kind in ("events", "users", "items"))
            found.append(f"{row['filter']} removed {gone}")
    return found


def repeats_refused(count: int, place: str, *, timed: bool) -> str:
    """Why rows that repeat earlier ones are refused, and what to do."""
    what = "user, item and time" if timed else "user and item"
    return (
        f"{count} rows repeat an earlier row (same {what}), the first is {place}; "
        "set dataset.duplicates=drop or dataset.duplicates=keep"
    )


def without_ratings(least: float) -> str:
    """Why there is nothing that `dataset.min_rating` could compare."""
    return (
        f"dataset.min_rating={least}, but this log has no ratings; name their column (dataset.rating_column) or set it "
        "to null"
    )


def _distinct(codes_K: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(codes_K)))
