"""What the data know of items and users, in their own ids: titles, attributes, a user's events, and the items that hold
what somebody types.

Legend: V items (from 1).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqrec_cli.serving.catalogue_search import ItemSearch
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import RawId


@dataclass(frozen=True)
class Event:
    """One event of a user's history."""

    item: int
    time: int | None  # seconds since 1970


class Catalogue:
    """Of one trained model's data; built once, before anybody asks."""

    def __init__(self, recommending: Recommending) -> None:
        self._recommending, catalog = recommending, recommending.log.catalog
        texts: dict[str, list[str]] = recommending.log.manifest.get("item_attribute_values", {})
        self._categories = [
            (each.name, catalog.item_values[each.name], texts[each.name])
            for each in catalog.item_attributes
            if each.name in texts
        ]
        self._numbers = list(catalog.item_numbers.items())
        order_V = np.argsort(-recommending.popularity_V[1:], kind="stable") + 1
        self._search = ItemSearch(recommending.items, recommending.titles, order_V)

    def found(self, typed: str, limit: int) -> list[int]:
        """Items (from 1) whose title or id holds `typed`; the most popular ones where it is empty."""
        return self._search.find(typed, limit)

    def described(self, items: Iterable[int]) -> list[dict[str, Any]]:
        """Raw id, title (None where the data have none) and attributes of each."""
        return [
            {
                "item_id": self._recommending.items[item - 1],
                "title": None if self._recommending.titles is None else self._recommending.titles[item - 1],
                "attributes": self._attributes(item),
            }
            for item in items
        ]

    def events(self, user: RawId) -> list[Event]:
        """All of a user's, the latest last. Raises SeqrecError for one that the data do not have."""
        asked = self._recommending.logged([user]).own()
        items = asked.items_N.tolist()
        times = [None] * len(items) if asked.times_N is None else asked.times_N.tolist()
        return [Event(item, time) for item, time in zip(items, times, strict=True)]

    def _attributes(self, item: int) -> dict[str, list[str]]:
        known = {
            name: [texts[value - 1] for value in values_VW[item].tolist() if value]
            for name, values_VW, texts in self._categories
        }
        for name, values_V in self._numbers:
            if math.isfinite(value := float(values_V[item])):
                known[name] = [f"{value:g}"]
        return {name: words for name, words in known.items() if words}
