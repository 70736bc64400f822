"""Parts of what was asked, so that a difference can be read for each: by history, popularity, coldness, attribute.

A request with several targets has those of a part counted in it. Click candidates go with their request: with the item
that was clicked there, where parts are of items.

Legend: T targets, N labelled candidates, U users, V items, W values of a user, K parts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import training_counts, user_training_counts
from seqrec_cli.evaluation.paired import Stored

MOST_VALUES = 12  # of an attribute that have a part of their own; rarer ones are one part
NEEDS_LOG = ("popularity", "cold", "cold_users", "user")


@dataclass(frozen=True)
class Segment:
    """A part: its words, which targets are in it and, where there are click scores, which candidates."""

    label: str
    targets_T: np.ndarray
    candidates_N: np.ndarray | None

    def of(self, run: Stored) -> Stored:
        """What is in the part."""
        clicks = None if run.clicks is None or self.candidates_N is None else run.clicks.where(self.candidates_N)
        return Stored(run.ranks.where(self.targets_T), clicks)


def needs_log(spec: str) -> bool:
    """Whether the parts come from the data, not from what a run stored."""
    return spec.partition(":")[0].partition(".")[0] in NEEDS_LOG


def segments(spec: str, run: Stored, log: PackedLog | None) -> list[Segment]:
    """`history:4`, `popularity:3` (about equally many targets each), `cold`, `cold_users`, or `user.ATTRIBUTE`."""
    kind, _, count = spec.partition(":")
    if kind == "history":
        clicks_N = None if run.clicks is None else run.clicks.histories_N
        return _equal_parts("events before", run.ranks.histories_T, clicks_N, parts=int(count))
    assert log is not None
    if kind == "popularity":
        counts_V = training_counts(log)
        asked_N = _asked_items(run)
        clicks_N = None if asked_N is None else np.where(asked_N > 0, counts_V[asked_N], -1)
        return _equal_parts("training events of the target", counts_V[run.ranks.items_T], clicks_N, parts=int(count))
    if kind == "cold":
        cold_V = training_counts(log) == 0
        return _labelled(run, lambda users, items: cold_V[items].astype(int), {1: "cold targets", 0: "warm targets"})
    if kind == "cold_users":
        cold_U = user_training_counts(log) == 0
        return _labelled(run, lambda users, items: cold_U[users].astype(int), {1: "cold users", 0: "warm users"})
    return _by_attribute(spec.removeprefix("user."), run, log)


def _equal_parts(what: str, values_T: np.ndarray, values_N: np.ndarray | None, *, parts: int) -> list[Segment]:
    """Equal values stay together, so that there may be fewer parts. Negative values of candidates are in none."""
    bounds = np.unique(np.quantile(values_T, np.arange(1, parts) / parts, method="lower"))
    part_T = np.searchsorted(bounds, values_T, side="left")
    part_N = None if values_N is None else np.where(values_N < 0, -1, np.searchsorted(bounds, values_N, side="left"))
    found = []
    for part in range(len(bounds) + 1):
        inside_T = part_T == part
        if inside_T.any():
            low, high = values_T[inside_T].min(), values_T[inside_T].max()
            span = f"{low:,} {what}" if low == high else f"{low:,} to {high:,} {what}"
            found.append(Segment(span, inside_T, None if part_N is None else part_N == part))
    return found


def _asked_items(run: Stored) -> np.ndarray | None:
    """For each candidate the item that was clicked in its request (the first of several), 0 where none was."""
    if run.clicks is None:
        return None
    _, request_N = np.unique(run.clicks.requests_N, return_inverse=True)
    clicked = np.flatnonzero(run.clicks.labels_N > 0)[::-1]
    items = np.zeros(request_N.max() + 1, np.int64)
    items[request_N[clicked]] = run.clicks.items_N[clicked]
    asked_N: np.ndarray = items[request_N]
    return asked_N


def _labelled(
    run: Stored, values: Callable[[np.ndarray, np.ndarray], np.ndarray], labels: dict[int, str]
) -> list[Segment]:
    """One part for each value that occurs, of (users, items)."""
    values_T = values(run.ranks.users_T, run.ranks.items_T)
    asked_N = _asked_items(run)
    values_N = None
    if run.clicks is not None and asked_N is not None:
        values_N = np.where(asked_N > 0, values(run.clicks.users_N, asked_N), -1)
    return [
        Segment(label, values_T == value, None if values_N is None else values_N == value)
        for value, label in labels.items()
        if (values_T == value).any()
    ]


def _by_attribute(name: str, run: Stored, log: PackedLog) -> list[Segment]:
    """A part a value, the most frequent first; a user with several values is in several."""
    have = [attribute.name for attribute in log.catalog.user_attributes]
    if name not in have:
        raise SeqrecError(
            f"segments=user.{name}: the data have no such attribute of users{nearest(name, have)} "
            f"(have: {', '.join(have) or 'none'})"
        )
    values_UW = np.asarray(log.catalog.user_values[name])
    texts = ["none", *log.manifest["user_attribute_values"][name]]
    of_T, frequent = values_UW[run.ranks.users_T], np.bincount(values_UW[np.unique(run.ranks.users_T), 0])
    order = [int(value) for value in np.argsort(-frequent, kind="stable") if frequent[value]]
    alone = order if len(order) <= MOST_VALUES else order[: MOST_VALUES - 1]
    of_N = None if run.clicks is None else values_UW[run.clicks.users_N]
    found = [
        Segment(
            f"{name} {texts[value]}",
            _has(of_T, value),
            None if of_N is None else _has(of_N, value),
        )
        for value in alone
    ]
    if len(alone) < len(order):
        rest_T = ~np.isin(of_T[:, 0], alone)
        rest_N = None if of_N is None else ~np.isin(of_N[:, 0], alone)
        found.append(Segment(f"{len(order) - len(alone)} other values of {name}", rest_T, rest_N))
    return found


def _has(values_W: np.ndarray, value: int) -> np.ndarray:
    """Rows one of whose values it is; of the absent value, rows that have none."""
    has: np.ndarray = values_W[:, 0] == 0 if value == 0 else (values_W == value).any(axis=1)
    return has
