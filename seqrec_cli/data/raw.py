"""What a source returns: the events in the order of the raw file, ids not yet encoded.

Legend: N events in file order, Q requests, S items shown.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# What other tools write for a value that is not there.
MISSING_WORDS = ("NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "NaT", "nat", "null", "NULL", "None", r"\N")


@dataclass(frozen=True)
class AttributeTable:
    """Values of one attribute: `values[k]` are those of raw id `ids[k]`, none, one or several."""

    ids: np.ndarray
    values: list[tuple[str, ...]]


@dataclass(frozen=True)
class Impressions:
    """What was shown at each request: items `shown_S[offsets_Q1[q]:offsets_Q1[q + 1]]`, no item twice.

    `events_Q` are the requests' own events in the log, the clicks; the clicked item is among those shown.
    """

    events_Q: np.ndarray
    offsets_Q1: np.ndarray
    shown_S: np.ndarray  # raw ids


@dataclass(frozen=True)
class RawLog:
    """Events in file order. Raw ids are int64, or an object array of str."""

    users_N: np.ndarray
    items_N: np.ndarray
    times_N: np.ndarray | None  # int64, in ticks; None: `order_keys`, then the order of the file, order the events
    ratings_N: np.ndarray | None  # float32
    item_attributes: dict[str, AttributeTable] = field(default_factory=dict)
    user_attributes: dict[str, AttributeTable] = field(default_factory=dict)
    context: dict[str, tuple[np.ndarray, list[str]]] = field(default_factory=dict)  # codes int32 [N] (-1: none), texts
    impressions: Impressions | None = None
    notes: tuple[str, ...] = ()  # what the reader had to decide, for the manifest
    ticks_per_second: int = 1  # times finer than a second still order events; they are stored in seconds; 0: not at all
    order_keys: tuple[np.ndarray, ...] = ()  # [N] each: what orders events of equal time, the first key first
    weights_N: np.ndarray | None = None  # float32, positive: how much an event counts as a training target
    labels_N: np.ndarray | None = None  # bool: True at events; the other rows were shown and not clicked
    titles: AttributeTable | None = None  # item names for people, kept in the vocabulary
    item_owners: AttributeTable | None = None  # raw user ids, as text
    sessions_N: np.ndarray | None = None  # int32, numbers of the log's own sessions
    numeric: frozenset[str] = frozenset()  # attributes, of items, users or events, whose values are numbers
    splits_N: np.ndarray | None = None  # int8: 0 trains, 1 validates, 2 tests, as the files say
    place: Callable[[int], str] | None = None  # where in the raw file an event is, in words; None: by its row
    process: dict[str, Any] | None = None  # settings of the process that generated the events
