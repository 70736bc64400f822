"""The catalog: how many users and items there are, and what is known of each.

Legend: V items (index 0 is padding, real items are 1..V), U users (index 0 is the unknown user), W values a row, A
values of an attribute (0: absent).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ITEM_VECTORS = "item_vectors"  # the name of pre-trained vectors among an item's features


@dataclass(frozen=True)
class Attribute:
    """A categorical attribute of items or users.

    `size` counts its values, 0 (absent) included; `width` is the most values one row has (genres: several).
    """

    name: str
    size: int
    width: int


@dataclass(frozen=True)
class Catalog:
    """Sizes and attributes. Attribute arrays have a row for index 0, all zeros: `values[name]` is int32 [V+1, W].

    Context attributes are of a request (device, hour), have one value each, and come with the batch. Numbers of items
    and users are float64 [V+1] and [U+1], NaN where there is none; a number of context is an attribute whose values
    are levels in ascending order, and has a rank for each.
    """

    num_users: int
    num_items: int
    item_attributes: tuple[Attribute, ...] = ()
    user_attributes: tuple[Attribute, ...] = ()
    item_values: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    user_values: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    context_attributes: tuple[Attribute, ...] = ()
    item_numbers: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    user_numbers: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    context_ranks: dict[str, np.ndarray] = field(default_factory=dict, repr=False)  # float64 [A], NaN for value 0
    item_vectors: np.ndarray | None = field(default=None, repr=False)  # pre-trained, float32 [V+1, W]; NaN: none

    def facts(self) -> dict[str, Any]:
        """Sizes alone, as plain values: what a model needs to be built again before its weights are loaded."""
        as_lists = {
            kind: [[a.name, a.size, a.width] for a in attributes]
            for kind, attributes in (
                ("item_attributes", self.item_attributes),
                ("user_attributes", self.user_attributes),
                ("context_attributes", self.context_attributes),
            )
        }
        later = {  # than the first logs and checkpoints: there where the data have them
            "item_numbers": list(self.item_numbers),
            "user_numbers": list(self.user_numbers),
            "context_numbers": list(self.context_ranks),
            ITEM_VECTORS: 0 if self.item_vectors is None else self.item_vectors.shape[1],
        }
        present = {key: value for key, value in later.items() if value}
        return {"num_users": self.num_users, "num_items": self.num_items, **as_lists, **present}

    @property
    def context_names(self) -> tuple[str, ...]:
        """Of the context attributes, in their order."""
        return tuple(attribute.name for attribute in self.context_attributes)

    @classmethod
    def blank(cls, facts: dict[str, Any]) -> "Catalog":
        """A catalog of those sizes without attribute values (a checkpoint's weights hold the real ones)."""
        item_attributes = tuple(Attribute(*row) for row in facts["item_attributes"])
        user_attributes = tuple(Attribute(*row) for row in facts["user_attributes"])

        def zeros(rows: int, attributes: tuple[Attribute, ...]) -> dict[str, np.ndarray]:
            return {a.name: np.zeros((rows + 1, a.width), np.int32) for a in attributes}

        return cls(
            facts["num_users"],
            facts["num_items"],
            item_attributes,
            user_attributes,
            zeros(facts["num_items"], item_attributes),
            zeros(facts["num_users"], user_attributes),
            (contexts := tuple(Attribute(*row) for row in facts["context_attributes"])),
            {name: np.full(facts["num_items"] + 1, np.nan) for name in facts.get("item_numbers", ())},
            {name: np.full(facts["num_users"] + 1, np.nan) for name in facts.get("user_numbers", ())},
            level_ranks(contexts, facts.get("context_numbers", ())),
            np.full((facts["num_items"] + 1, width), np.nan, np.float32)
            if (width := facts.get(ITEM_VECTORS))
            else None,
        )


def level_ranks(attributes: Iterable[Attribute], names: Iterable[str]) -> dict[str, np.ndarray]:
    """Ranks of the levels of these numbers, as if each occurred once."""
    sizes = {attribute.name: attribute.size for attribute in attributes}
    return {name: np.append(np.nan, (np.arange(1, sizes[name]) - 0.5) / max(sizes[name] - 1, 1)) for name in names}
