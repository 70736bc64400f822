"""The packed log: every user's history as one slice of flat, memory-mapped arrays.

Legend: N events, U users, R labelled rows, C candidates a row, F context attributes. User rows are 0..U-1
here (a `Batch` counts users from 1, so that 0 is the unknown user); item indices are 1..V, 0 is padding.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_cli.data.catalog import Attribute, Catalog

FORMAT = 2  # raise when the files below change: older folders are then built again


def ragged_ranges(starts: np.ndarray | int, lengths: np.ndarray) -> np.ndarray:
    """start, start + 1, ..., start + length - 1 of every range, one range after another, int64."""
    ends = np.cumsum(lengths, dtype=np.int64)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


@dataclass(frozen=True)
class LabelledRows:
    """Click candidates fixed in the preprocessed data, so that every model is judged on the same ones.

    `rows_R` is the user row, `ends_R` the absolute log position the history ends before (it starts at the user's
    offset), `items_RC` the candidates (0 where there is none), `labels_RC` 1 for a click, 0 for none.
    """

    rows_R: np.ndarray
    ends_R: np.ndarray
    items_RC: np.ndarray
    labels_RC: np.ndarray

    def at(self, which: np.ndarray) -> "LabelledRows":
        """Some of the rows, by a mask or indices."""
        return LabelledRows(self.rows_R[which], self.ends_R[which], self.items_RC[which], self.labels_RC[which])


@dataclass(frozen=True)
class Ends:
    """Absolute log positions, int64 [U]: where training events end, and the targets of both splits (-1: none)."""

    train_U: np.ndarray
    val_U: np.ndarray
    test_U: np.ndarray

    def targets(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """(user rows, positions) of a split's targets."""
        ends_U = np.asarray(self.val_U if split == "val" else self.test_U)
        rows_R = np.flatnonzero(ends_U >= 0)
        return rows_R, ends_U[rows_R]


@dataclass(frozen=True)
class PackedLog:
    """A preprocessed dataset. Opening it maps files and reads no events."""

    offsets_U1: np.ndarray  # int64: user row u owns events offsets[u]:offsets[u+1]
    items_N: np.ndarray  # int32
    times_N: np.ndarray | None  # int64, seconds
    ratings_N: np.ndarray | None  # float32
    catalog: Catalog
    clicks: dict[str, LabelledRows] = field(default_factory=dict)  # by split: val, test, maybe train
    manifest: dict[str, Any] = field(default_factory=dict)
    context_NF: np.ndarray | None = None  # int32: what was logged with each event, 0 where nothing was
    ends: Ends | None = None  # None: leave-last-out
    time_context: tuple[str, ...] = ()  # hour or weekday of its requests, after the logged context
    folder: Path | None = None  # holds items.parquet and users.parquet (index, raw id)

    @property
    def num_users(self) -> int:
        return len(self.offsets_U1) - 1

    @property
    def num_items(self) -> int:
        return self.catalog.num_items

    @property
    def fingerprint(self) -> str:
        """Identifies raw bytes + settings; two logs with the same fingerprint hold the same data."""
        return str(self.manifest["fingerprint"])

    @classmethod
    def open(cls, folder: Path) -> "PackedLog":
        """Map a folder written by `save`."""
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))

        def load(name: str) -> np.ndarray:
            array: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="c")  # torch wants writable memory
            return array

        def optional(name: str) -> np.ndarray | None:
            return load(name) if (folder / f"{name}.npy").exists() else None

        item_attributes = tuple(Attribute(*row) for row in manifest["item_attributes"])
        user_attributes = tuple(Attribute(*row) for row in manifest["user_attributes"])
        catalog = Catalog(
            manifest["users"],
            manifest["items"],
            item_attributes,
            user_attributes,
            {a.name: load(f"item_{a.name}") for a in item_attributes},
            {a.name: load(f"user_{a.name}") for a in user_attributes},
            tuple(Attribute(*row) for row in manifest["context_attributes"]),
        )
        clicks = {
            split: LabelledRows(*(load(f"clicks_{split}_{part}") for part in ("rows", "ends", "items", "labels")))
            for split in manifest["click_splits"]
        }
        return cls(
            load("offsets"),
            load("items"),
            optional("times"),
            optional("ratings"),
            catalog,
            clicks,
            manifest,
            optional("context"),
            Ends(load("ends_train"), load("ends_val"), load("ends_test")) if manifest["ends"] else None,
            folder=folder,
        )

    def save(self, folder: Path) -> None:
        """Write the arrays and the manifest; the caller writes into a temporary folder and renames it."""
        facts = self.catalog.facts()
        arrays: dict[str, np.ndarray | None] = {
            "offsets": self.offsets_U1,
            "items": self.items_N,
            "times": self.times_N,
            "ratings": self.ratings_N,
            "context": self.context_NF,
            "ends_train": None if self.ends is None else self.ends.train_U,
            "ends_val": None if self.ends is None else self.ends.val_U,
            "ends_test": None if self.ends is None else self.ends.test_U,
            **{f"item_{name}": values for name, values in self.catalog.item_values.items()},
            **{f"user_{name}": values for name, values in self.catalog.user_values.items()},
        }
        for split, c in self.clicks.items():
            parts = {"rows": c.rows_R, "ends": c.ends_R, "items": c.items_RC, "labels": c.labels_RC}
            arrays |= {f"clicks_{split}_{part}": array for part, array in parts.items()}
        for name, array in arrays.items():
            if array is not None:
                np.save(folder / f"{name}.npy", array)
        manifest = {
            **self.manifest,
            "format": FORMAT,
            "users": facts["num_users"],
            "items": facts["num_items"],
            "events": len(self.items_N),
            "item_attributes": facts["item_attributes"],
            "user_attributes": facts["user_attributes"],
            "context_attributes": facts["context_attributes"],
            "ends": self.ends is not None,
            "click_splits": sorted(self.clicks),
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
