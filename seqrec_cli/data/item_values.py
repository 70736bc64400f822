"""The items of a log by the values of their attributes: which are comedies, which are of this category.

Legend: V items (index 0 is padding), W values an item, E values of all items, A values of an attribute.
"""

from collections.abc import Sequence

import numpy as np

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.data.interactions import PackedLog

SHOWN = 12  # values named in a refusal


class ItemValues:
    """Finds items by attribute and value; an attribute is sorted by its values when it is first asked about."""

    def __init__(self, log: PackedLog) -> None:
        self._catalog = log.catalog
        self._texts: dict[str, list[str]] = log.manifest.get("item_attribute_values", {})
        self._sorted: dict[str, tuple[dict[str, int], np.ndarray, np.ndarray]] = {}

    @property
    def names(self) -> list[str]:
        """The attributes that items are found by: those with values, not numbers."""
        return [attribute.name for attribute in self._catalog.item_attributes if attribute.name in self._texts]

    def with_any(self, name: str, texts: Sequence[str]) -> np.ndarray:
        """Items (from 1) that have one of these values of the attribute, int64, ascending.

        Raises SeqrecError for an attribute, or a value, that the data do not have.
        """
        if name not in self.names:
            if name in self._catalog.item_numbers:
                raise SeqrecError(f"where.{name}: it is a number, and items are filtered by values in words")
            have = ", ".join(self.names) or "none"
            raise SeqrecError(f"where.{name}: items have no such attribute{nearest(name, self.names)} (have: {have})")
        codes, items_E, starts_A = self._of(name)
        found = []
        for text in texts:
            if text not in codes:
                shown = ", ".join(list(codes)[:SHOWN]) + (", ..." if len(codes) > SHOWN else "")
                raise SeqrecError(f"where.{name}={text}: no item has it{nearest(text, codes)} (have: {shown})")
            found.append(items_E[starts_A[codes[text]] : starts_A[codes[text] + 1]])
        return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)

    def _of(self, name: str) -> tuple[dict[str, int], np.ndarray, np.ndarray]:
        if name not in self._sorted:
            values_V1W = np.asarray(self._catalog.item_values[name])
            codes_E, items_E = values_V1W.ravel(), np.repeat(np.arange(len(values_V1W)), values_V1W.shape[1])
            order_E = np.argsort(codes_E, kind="stable")
            texts = self._texts[name]
            starts_A = np.searchsorted(codes_E[order_E], np.arange(len(texts) + 2))
            self._sorted[name] = {text: code for code, text in enumerate(texts, 1)}, items_E[order_E], starts_A
        return self._sorted[name]
