"""The catalog: how many users and items there are, and what is known of each.

Legend: V items (index 0 is padding, real items are 1..V), U users (index 0 is the unknown user), W values a row.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


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

    Context attributes are of a request (device, hour), have one value each, and come with the batch.
    """

    num_users: int
    num_items: int
    item_attributes: tuple[Attribute, ...] = ()
    user_attributes: tuple[Attribute, ...] = ()
    item_values: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    user_values: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    context_attributes: tuple[Attribute, ...] = ()

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
        return {"num_users": self.num_users, "num_items": self.num_items, **as_lists}

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
            tuple(Attribute(*row) for row in facts["context_attributes"]),
        )
