"""What the data know of items and users, in their own ids: titles, attributes, a user's events, and the items that hold
what somebody types. Items that were added, changed and removed while the service runs are as they are now.

Legend: V items of the data (from 1); rows behind them are those of changes (`item_state`).
"""

import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from seqrec_cli.serving.catalogue_search import ItemSearch
from seqrec_cli.serving.item_state import RecommendingAt, Row, texts_of
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import RawId

MOST_BESIDE = 1000  # changed items whose order is made anew with each change


@dataclass(frozen=True)
class Event:
    """One event of a user's history."""

    item: int
    time: int | None  # seconds since 1970


class Catalogue:
    """Of one trained model's data. What search needs is made by `prepare`, or when somebody first searches."""

    def __init__(self, recommending: Recommending) -> None:
        self._recommending, catalog = recommending, recommending.log.catalog
        texts: dict[str, list[str]] = recommending.log.manifest.get("item_attribute_values", {})
        self._categories = [
            (each.name, catalog.item_values[each.name], texts[each.name])
            for each in catalog.item_attributes
            if each.name in texts
        ]
        self._numbers = list(catalog.item_numbers.items())
        self._search: ItemSearch | None = None
        self._changed = ChangedItems()
        self._preparing = threading.Lock()

    @property
    def prepared(self) -> bool:
        """Whether a search begins at once."""
        return self._search is not None

    def prepare(self) -> ItemSearch:
        """Make what search needs: a second for 100,000 items."""
        with self._preparing:
            if self._search is None:
                order_V = np.argsort(-self._recommending.popularity_V[1:], kind="stable") + 1
                self._search = ItemSearch(self._recommending.items, self._recommending.titles, order_V)
            return self._search

    def found(self, typed: str, limit: int, at: Recommending) -> list[int]:
        """Items whose title or id holds `typed`, as rows of `at`; the most popular ones where it is empty."""
        search = self.prepare()
        if not isinstance(at, RecommendingAt) or not at.state.offered:
            return search.find(typed, limit)
        wider = limit
        while True:
            of_data = search.groups(typed, wider)
            some = sum(map(len, of_data))
            changed = self._changed.groups(typed, limit, at)
            rows = dict.fromkeys(
                row
                for group, beside in zip_longest(of_data, changed, fillvalue=())
                for row in (*filter(None, map(at.row_now, group)), *beside)
            )
            if len(rows) >= limit or some < wider:  # removed ones leave too few, and there are more
                return list(rows)[:limit]
            wider *= 4

    def described(self, rows: Iterable[int], at: Recommending) -> list[dict[str, Any]]:
        """Raw id, title (None where the data have none) and attributes of each."""
        rows = list(rows)
        raws, titles = at.named(np.array(rows, np.int64))
        told: Sequence[str | None] = titles or [None] * len(rows)
        return [
            {"item_id": raw, "title": title, "attributes": self._attributes(row, at)}
            for row, raw, title in zip(rows, raws, told, strict=True)
        ]

    def events(self, user: RawId, at: Recommending) -> list[Event]:
        """All of a user's, the latest last, by rows of `at`. Raises SeqrecError for one that the data do not have."""
        asked = self._recommending.logged([user]).own()
        items = asked.items_N.tolist()
        if isinstance(at, RecommendingAt):
            items = [at.row_now(item) or item for item in items]
        times = [None] * len(items) if asked.times_N is None else asked.times_N.tolist()
        return [Event(item, time) for item, time in zip(items, times, strict=True)]

    def _attributes(self, row: int, at: Recommending) -> dict[str, list[str]]:
        """What was told with a change, and of what was not told what the data have."""
        V = len(self._recommending.items)
        changed = at.state.rows[row - V - 1] if row > V and isinstance(at, RecommendingAt) else None
        item = row if changed is None else changed.origin
        known = {
            name: [texts[value - 1] for value in values_VW[item].tolist() if value]
            for name, values_VW, texts in self._categories
        }
        for name, values_V in self._numbers:
            if math.isfinite(value := float(values_V[item])):
                known[name] = [f"{value:g}"]
        known = known if item else {}
        if changed is not None:
            known |= {name: sorted(texts_of(told)) for name, told in changed.attributes.items()}
        return {name: words for name, words in known.items() if words}


class ChangedItems:
    """Searches what was added, and the new titles of what was changed. Rows are only ever added behind the others, so
    an order of the first ones stays true; that of those since is made anew while they are few."""

    def __init__(self) -> None:
        self._rows: object = None  # of the states of one model
        self._parts: list[tuple[int, int, ItemSearch]] = []  # the first row, the one behind the last, their search

    def groups(self, typed: str, limit: int, at: RecommendingAt) -> list[list[int]]:
        """Rows of `at` as `ItemSearch.groups` has them; none where nothing is typed."""
        V, rows = len(at.items), at.state.rows
        if not typed.strip():
            return []
        self._bring_to(rows, len(at.state) - V - 1)
        found: list[list[int]] = []
        for first, _, search in self._parts:
            # Former rows of items are among them.
            groups = search.groups(typed, limit + MOST_BESIDE)
            now = [[row for each in group if at.is_now(row := V + first + each)] for group in groups]
            found = [[*one, *other] for one, other in zip_longest(now, found, fillvalue=())]
        return found

    def _bring_to(self, rows: Sequence[Row], count: int) -> None:
        if self._rows is not rows:
            self._rows, self._parts = rows, []
        first, end = (self._parts[-1][0], self._parts[-1][1]) if self._parts else (0, 0)
        if end >= count:  # rows behind it are told apart by `is_now`
            return
        if self._parts and end - first < MOST_BESIDE:
            self._parts.pop()
        else:
            first = end
        self._parts.append((first, count, _search_of(rows[first:count])))


def _search_of(rows: Sequence[Row]) -> ItemSearch:
    """The latest first."""
    titles = [each.title or "" for each in rows]
    return ItemSearch([each.raw for each in rows], titles, np.arange(len(rows), 0, -1))
