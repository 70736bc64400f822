"""The packed log: every user's history as one slice of flat, memory-mapped arrays.

Legend: N events, U users, Q requests, C items shown at a request, F context attributes. User rows are 0..U-1
here (a `Batch` counts users from 1, so that 0 is the unknown user); item indices are 1..V, 0 is padding.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_cli.data import integrity, log_shapes
from seqrec_cli.data.catalog import ITEM_VECTORS, Attribute, Catalog, level_ranks
from seqrec_cli.data.view import LabelledRows, View

VECTORS_FILE = "pretrained_vectors"
FORMAT = 3  # raise when the files below change: older folders are then built again


def ragged_ranges(starts: np.ndarray | int, lengths: np.ndarray) -> np.ndarray:
    """start, start + 1, ..., start + length - 1 of every range, one range after another, int64."""
    ends = np.cumsum(lengths, dtype=np.int64)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def equal_to_previous(values_N: np.ndarray, offsets_U1: np.ndarray) -> np.ndarray:
    """True at events whose value is that of their user's event before, [N]."""
    found_N = np.zeros(len(values_N), bool)
    found_N[1:] = values_N[1:] == values_N[:-1]
    found_N[offsets_U1[:-1][np.diff(offsets_U1) > 0]] = False
    return found_N


@dataclass(frozen=True)
class PackedLog:
    """A preprocessed dataset. Opening it maps files and reads no events."""

    offsets_U1: np.ndarray  # int64: user row u owns events offsets[u]:offsets[u+1]
    items_N: np.ndarray  # int32
    times_N: np.ndarray | None  # int64, seconds
    ratings_N: np.ndarray | None  # float32
    catalog: Catalog
    manifest: dict[str, Any] = field(default_factory=dict)
    context_NF: np.ndarray | None = None  # int32: what was logged with each event, 0 where nothing was
    requests: LabelledRows | None = None  # logged: what was clicked against what was shown
    sessions_N: np.ndarray | None = None  # int32: the log's own sessions, a number each
    owners_V1: np.ndarray | None = None  # int32: the user (from 1) who owns each item, 0: none of this log
    view: View | None = None  # what a protocol asks of it; None: leave-last-out without click candidates
    time_context: tuple[str, ...] = ()  # hour or weekday of its requests, after the logged context
    splits_N: np.ndarray | None = None  # int8: 0 trains, 1 validates, 2 tests, as the files say; for protocol=given
    weights_N: np.ndarray | None = None  # float32: how much each event counts as a training target
    tied_N: np.ndarray | None = None  # bool: nothing but the file orders it after the event before; None: by `times_N`
    folder: Path | None = None  # holds items.parquet and users.parquet (index, raw id)

    @property
    def num_users(self) -> int:
        return len(self.offsets_U1) - 1

    @property
    def num_items(self) -> int:
        return self.catalog.num_items

    @property
    def without_times(self) -> str:
        """That it has no times, for messages."""
        unit = self.manifest.get("settings", {}).get("time_unit")
        return "this log has no times" + (" (dataset.time_unit=order: an order alone)" if unit == "order" else "")

    def ties(self) -> np.ndarray | None:
        """True where nothing but the file orders an event after the one before it, [N]; None: the log has no times."""
        if self.tied_N is not None or self.times_N is None:
            return self.tied_N
        return equal_to_previous(np.asarray(self.times_N), np.asarray(self.offsets_U1))

    def ties_of(self, users: slice) -> np.ndarray:
        """`ties` of the events of some users, who follow each other. The log has times, or ties."""
        offsets = np.asarray(self.offsets_U1[users.start : users.stop + 1])
        events = slice(int(offsets[0]), int(offsets[-1]))
        if self.tied_N is not None:
            return np.asarray(self.tied_N[events])
        assert self.times_N is not None
        return equal_to_previous(np.asarray(self.times_N[events]), offsets - offsets[0])

    @property
    def clicks(self) -> dict[str, LabelledRows]:
        """The protocol's labelled rows by split: val, test, maybe train."""
        return {} if self.view is None else self.view.clicks

    @property
    def fingerprint(self) -> str:
        """Identifies raw bytes, filters and protocol; two logs with the same fingerprint ask the same of the same."""
        manifest = self.manifest if self.view is None or not self.view.manifest else self.view.manifest
        return str(manifest["fingerprint"])

    def fits(self, fingerprint: str) -> bool:
        """Whether a checkpoint with this fingerprint was trained on this log as this protocol sees it."""
        former = None if self.view is None else self.view.manifest.get("former_fingerprint")
        return fingerprint in (self.fingerprint, former)

    @classmethod
    def open(cls, folder: Path, *, verify: bool = False) -> "PackedLog":
        """Map a folder written by `save`. Raises ValueError, KeyError, OSError ... where it is damaged.

        `verify`: read all bytes through, though this machine has done so before.
        """
        manifest = integrity.read_manifest(folder)
        if manifest["format"] != FORMAT:
            raise integrity.DamagedError(f"its format is {manifest['format']}, and this version reads {FORMAT}")
        integrity.check_sizes(folder, manifest)
        files = manifest.get(integrity.FILES)

        def load(name: str) -> np.ndarray:
            array: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="c")  # torch wants writable memory
            return array

        def optional(name: str) -> np.ndarray | None:
            there = (folder / f"{name}.npy").exists() if files is None else f"{name}.npy" in files
            return load(name) if there else None

        item_attributes = tuple(Attribute(*row) for row in manifest["item_attributes"])
        user_attributes = tuple(Attribute(*row) for row in manifest["user_attributes"])
        catalog = Catalog(
            manifest["users"],
            manifest["items"],
            item_attributes,
            user_attributes,
            {a.name: load(f"item_{a.name}") for a in item_attributes},
            {a.name: load(f"user_{a.name}") for a in user_attributes},
            (context_attributes := tuple(Attribute(*row) for row in manifest["context_attributes"])),
            {name: load(f"item_{name}") for name in manifest.get("item_numbers", ())},
            {name: load(f"user_{name}") for name in manifest.get("user_numbers", ())},
            level_ranks(context_attributes, manifest.get("context_numbers", ())),
            load(VECTORS_FILE) if manifest.get(ITEM_VECTORS) else None,
        )
        requests = LabelledRows.load("requests", load, optional) if manifest["requests"] else None
        log = cls(
            load("offsets"),
            load("items"),
            optional("times"),
            optional("ratings"),
            catalog,
            manifest,
            optional("context"),
            requests,
            optional("sessions"),
            optional("owners"),
            splits_N=optional("splits"),
            weights_N=optional("weights"),
            tied_N=optional("tied"),
            folder=folder,
        )
        log_shapes.check_shapes(log)
        integrity.check_contents(folder, manifest, lambda: log_shapes.check_indices(log), anew=verify)
        return log

    def save(self, folder: Path) -> None:
        """Write the arrays and the manifest, not the view; the caller writes into a temporary folder and renames it."""
        facts = self.catalog.facts()
        arrays: dict[str, np.ndarray | None] = {
            "offsets": self.offsets_U1,
            "items": self.items_N,
            "times": self.times_N,
            "ratings": self.ratings_N,
            "context": self.context_NF,
            "sessions": self.sessions_N,
            "owners": self.owners_V1,
            "splits": self.splits_N,
            "weights": self.weights_N,
            "tied": self.tied_N,
            **{f"item_{name}": values for name, values in self.catalog.item_values.items()},
            **{f"user_{name}": values for name, values in self.catalog.user_values.items()},
            **{f"item_{name}": numbers for name, numbers in self.catalog.item_numbers.items()},
            **{f"user_{name}": numbers for name, numbers in self.catalog.user_numbers.items()},
            VECTORS_FILE: self.catalog.item_vectors,
        }
        if self.requests is not None:
            arrays |= self.requests.arrays("requests")
        for name, array in arrays.items():
            if array is not None:
                np.save(folder / f"{name}.npy", array)
        manifest = {
            **self.manifest,
            "format": FORMAT,
            "users": facts.pop("num_users"),
            "items": facts.pop("num_items"),
            "events": len(self.items_N),
            **facts,
            "requests": self.requests is not None,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
