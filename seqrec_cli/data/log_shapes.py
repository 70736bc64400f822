"""What the arrays of a packed log, and of its views, have to be: shapes at once, indices when they are read through.

Legend: U users, N events, V items, F context attributes, W values of an attribute, R requests, T targets, C candidates.
"""

from typing import TYPE_CHECKING

import numpy as np

from seqrec_cli.data.catalog import Attribute
from seqrec_cli.data.integrity import DamagedError, finite, in_range, of_shape, rising
from seqrec_cli.data.view import SPLITS, LabelledRows, View

if TYPE_CHECKING:
    from seqrec_cli.data.interactions import PackedLog


def check_shapes(log: "PackedLog") -> None:
    """Raises `DamagedError`; reads no events."""
    users, items, events = log.catalog.num_users, log.catalog.num_items, log.manifest["events"]
    of_shape("offsets", log.offsets_U1, kind="i", shape=(users + 1,))
    of_shape("items", log.items_N, kind="i", shape=(events,))
    if log.offsets_U1[0] != 0 or log.offsets_U1[-1] != events:
        raise DamagedError(f"offsets do not lead from 0 to {events:,} events")
    if log.times_N is None and str(log.manifest.get("order", "")).startswith("by time"):
        raise DamagedError("times.npy is missing")
    if log.context_NF is None and log.catalog.context_attributes:
        raise DamagedError("context.npy is missing")
    for name, array, kind in (
        ("times", log.times_N, "i"),
        ("ratings", log.ratings_N, "f"),
        ("sessions", log.sessions_N, "i"),
        ("splits", log.splits_N, "i"),
        ("weights", log.weights_N, "f"),
        ("tied", log.tied_N, "b"),
    ):
        if array is not None:
            of_shape(name, array, kind=kind, shape=(events,))
    if log.context_NF is not None:
        of_shape("context", log.context_NF, kind="i", shape=(events, len(log.catalog.context_attributes)))
    if log.owners_V1 is not None:
        of_shape("owners", log.owners_V1, kind="i", shape=(items + 1,))
    for rows, attributes, values in (
        (items, log.catalog.item_attributes, log.catalog.item_values),
        (users, log.catalog.user_attributes, log.catalog.user_values),
    ):
        for attribute in attributes:
            of_shape(attribute.name, values[attribute.name], kind="iuf", shape=(rows + 1, attribute.width))
    if log.requests is not None:
        _check_labelled_shapes("requests", log.requests)


def check_indices(log: "PackedLog") -> None:
    """Raises `DamagedError` where an index points beyond what there is; reads everything once."""
    users, items = log.catalog.num_users, log.catalog.num_items
    rising("offsets", log.offsets_U1)
    in_range("items", log.items_N, low=1, high=items)
    for name, values_N in (("ratings", log.ratings_N), ("weights", log.weights_N)):
        if values_N is not None:
            finite(name, values_N)
    if log.owners_V1 is not None:
        in_range("owners", log.owners_V1, low=0, high=users)
    for attributes, values in (
        (log.catalog.item_attributes, log.catalog.item_values),
        (log.catalog.user_attributes, log.catalog.user_values),
    ):
        for attribute in attributes:
            _check_codes(attribute, values[attribute.name])
    if log.context_NF is not None:
        for nth, attribute in enumerate(log.catalog.context_attributes):
            _check_codes(attribute, log.context_NF[:, nth])
    if log.requests is not None:
        _check_labelled("requests", log.requests, log)


def check_view(view: View, log: "PackedLog") -> None:
    """Raises `DamagedError` where a view is of another log, or points beyond it."""
    offsets_U1, users, events = np.asarray(log.offsets_U1), log.num_users, len(log.items_N)
    of_shape("train", view.train_U, kind="i", shape=(users,))
    if np.any(view.train_U < offsets_U1[:-1]) or np.any(view.train_U > offsets_U1[1:]):
        raise DamagedError("train leads beyond its users' events")
    for split in SPLITS:
        targets = view.targets(split)
        of_shape(f"{split}_rows", targets.rows_R, kind="i", shape=(None,))
        of_shape(f"{split}_ends", targets.ends_R, kind="i", shape=(len(targets.rows_R),))
        of_shape(f"{split}_offsets", targets.offsets_R1, kind="i", shape=(len(targets.rows_R) + 1,))
        of_shape(f"{split}_positions", targets.positions_T, kind="i", shape=(int(targets.offsets_R1[-1]),))
        rising(f"{split}_offsets", targets.offsets_R1)
        in_range(f"{split}_rows", targets.rows_R, low=0, high=users - 1)
        in_range(f"{split}_ends", targets.ends_R, low=0, high=events)
        in_range(f"{split}_positions", targets.positions_T, low=0, high=events - 1)
    for name, rows in view.clicks.items():
        _check_labelled_shapes(f"clicks_{name}", rows)
        _check_labelled(f"clicks_{name}", rows, log)


def _check_codes(attribute: Attribute, values: np.ndarray) -> None:
    if values.dtype.kind == "f":
        finite(attribute.name, values)
    else:
        in_range(attribute.name, values, low=0, high=attribute.size - 1)


def _check_labelled_shapes(name: str, rows: LabelledRows) -> None:
    of_shape(f"{name}_rows", rows.rows_R, kind="i", shape=(None,))
    of_shape(f"{name}_ends", rows.ends_R, kind="i", shape=(len(rows.rows_R),))
    of_shape(f"{name}_items", rows.items_RC, kind="i", shape=(len(rows.rows_R), None))
    of_shape(f"{name}_labels", rows.labels_RC, kind="f", shape=rows.items_RC.shape)
    for part, array, kind in (("times", rows.times_R, "i"), ("weights", rows.weights_R, "f")):
        if array is not None:
            of_shape(f"{name}_{part}", array, kind=kind, shape=(len(rows.rows_R),))
    if rows.context_RF is not None:
        of_shape(f"{name}_context", rows.context_RF, kind="i", shape=(len(rows.rows_R), None))


def _check_labelled(name: str, rows: LabelledRows, log: "PackedLog") -> None:
    in_range(f"{name}_rows", rows.rows_R, low=0, high=log.num_users - 1)
    in_range(f"{name}_ends", rows.ends_R, low=0, high=len(log.items_N))
    in_range(f"{name}_items", rows.items_RC, low=0, high=log.num_items)
    finite(f"{name}_labels", rows.labels_RC)
