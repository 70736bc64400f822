"""A few of a log's users as a log of their own, for measurements that need not see everybody.

Legend: U users, N events, R rows of a split.
"""

from dataclasses import replace

import numpy as np

from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.splits import held_out, view_of
from seqrec_cli.data.view import HeldOut, Targets


def of_users(log: PackedLog, users_U: np.ndarray) -> PackedLog:
    """The log of these user rows alone (ascending); items and attributes stay whole, so a model fits both."""
    starts_U, ends_U = log.offsets_U1[users_U], log.offsets_U1[users_U + 1]
    lengths_U = ends_U - starts_U
    offsets_U1 = np.concatenate([[0], np.cumsum(lengths_U)]).astype(np.int64)
    events_N = ragged_ranges(starts_U, lengths_U)
    clicks = {}
    for split, c in log.clicks.items():
        kept = np.flatnonzero(np.isin(c.rows_R, users_U))
        rows_R = np.searchsorted(users_U, np.asarray(c.rows_R)[kept])
        ends_R = np.asarray(c.ends_R)[kept] - starts_U[rows_R] + offsets_U1[rows_R]
        clicks[split] = replace(c.at(kept), rows_R=rows_R, ends_R=ends_R)
    view = view_of(log)

    def moved(targets: Targets) -> Targets:
        kept = targets.at(np.flatnonzero(np.isin(targets.rows_R, users_U)))
        rows_R = np.searchsorted(users_U, kept.rows_R)
        shift_R = offsets_U1[rows_R] - starts_U[rows_R]
        positions_T = kept.positions_T + np.repeat(shift_R, kept.counts_R)
        return Targets(rows_R, kept.ends_R + shift_R, positions_T, kept.offsets_R1)

    train_U = np.asarray(view.train_U)[users_U] - starts_U + offsets_U1[:-1]
    return replace(
        log,
        offsets_U1=offsets_U1,
        items_N=np.asarray(log.items_N)[events_N],
        times_N=None if log.times_N is None else np.asarray(log.times_N)[events_N],
        ratings_N=None if log.ratings_N is None else np.asarray(log.ratings_N)[events_N],
        view=replace(view, train_U=train_U, val=moved(view.val), test=moved(view.test), clicks=clicks),
        requests=None,
        splits_N=None,
        owners_V1=None,  # whose users are counted anew
        context_NF=None if log.context_NF is None else np.asarray(log.context_NF)[events_N],
        weights_N=None if log.weights_N is None else np.asarray(log.weights_N)[events_N],
        tied_N=None if log.tied_N is None else np.asarray(log.tied_N)[events_N],
        folder=None,
    )


def evenly_by_length(log: PackedLog, split: HeldOut, max_length: int, *, batch_size: int, batches: int) -> np.ndarray:
    """Rows of `batches` whole evaluation batches, evenly spaced among all, which are sorted by length."""
    targets = held_out(log, split)
    rows_R, lengths_R = targets.rows_R, np.minimum(targets.ends_R - log.offsets_U1[targets.rows_R], max_length)
    order_R = rows_R[np.argsort(-lengths_R, kind="stable")]
    groups = [order_R[first : first + batch_size] for first in range(0, len(order_R), batch_size)]
    wanted = np.unique(((np.arange(batches) + 0.5) * len(groups) / batches).astype(int))
    return np.unique(np.concatenate([groups[group] for group in wanted]))
