"""Labels of the log's own: rows labelled 1 are events, rows labelled 0 were shown and not clicked.

Each row is a question of its own: its user's clicks before it, its time, its context, and its label.

Legend: N raw rows, K events that pass the filters, S rows that were not clicked, R labelled rows, F context attributes.
"""

from typing import NamedTuple

import numpy as np

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.data.filters import repeats
from seqrec_cli.data.raw import RawLog
from seqrec_cli.data.view import LabelledRows


class Events(NamedTuple):
    """The same events in the order of the log: by user, then by time."""

    kept_K: np.ndarray
    rows_K: np.ndarray
    items_K: np.ndarray
    times_K: np.ndarray | None  # seconds
    offsets_U1: np.ndarray
    tied_K: np.ndarray | None  # where nothing but the file orders an event after its user's one before
    ordered_ties: int  # pairs of one time that `dataset.order_columns` order


def sort_keys(raw: RawLog) -> list[np.ndarray]:
    """What orders a user's rows, the first key first: what the files hold out comes after what they train on, whatever
    the times say; then times; then the further columns."""
    return [key_N for key_N in (raw.splits_N, raw.times_N, *raw.order_keys) if key_N is not None]


def unclicked(
    cfg: DatasetConfig, raw: RawLog, users_N: np.ndarray, *, items_N: np.ndarray, users: np.ndarray
) -> np.ndarray:
    """Positions [S] of the rows labelled 0, of these users alone; users and items are codes."""
    assert raw.labels_N is not None
    which_N = ~raw.labels_N & np.isin(users_N, users)
    if cfg.duplicates == "drop":
        which_N &= ~repeats(users_N, items_N, raw.times_N)
    return np.flatnonzero(which_N)


def labelled_rows(
    raw: RawLog, events: Events, *, unclicked_S: np.ndarray, rows_S: np.ndarray, shown_S: np.ndarray
) -> LabelledRows:
    """All rows in order of users and time, each with one candidate.

    `unclicked_S` are the raw rows that were not clicked, `rows_S` their user rows, `shown_S` their item indices.
    """
    raw_R = np.concatenate([events.kept_K, unclicked_S])
    users_R = np.concatenate([events.rows_K, rows_S])
    items_R = np.concatenate([events.items_K, shown_S])
    clicked_R = np.arange(len(raw_R)) < len(events.kept_K)
    keys = [key_N[raw_R] for key_N in sort_keys(raw)]
    order_R = np.lexsort([raw_R, *reversed(keys), users_R])
    raw_R, users_R, clicked_R = raw_R[order_R], users_R[order_R], clicked_R[order_R]
    ends_R: np.ndarray = np.cumsum(clicked_R) - clicked_R  # clicks before it, of all users: its place in the log
    context = [codes_N[raw_R] + 1 for codes_N, _ in raw.context.values()]
    timed = raw.times_N is not None and raw.ticks_per_second
    return LabelledRows(
        users_R,
        ends_R.astype(np.int64),
        items_R[order_R].astype(np.int32)[:, None],
        clicked_R.astype(np.float32)[:, None],
        raw.times_N[raw_R] // raw.ticks_per_second if timed else None,  # type: ignore[index]
        np.stack(context, axis=1).astype(np.int32) if context else None,
        None if raw.weights_N is None else raw.weights_N[raw_R],
    )
