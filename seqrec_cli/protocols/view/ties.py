"""The order of a user's events of equal time, which the log cannot know: as the file has them, reversed, or shuffled.

Legend: N events.
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog

STREAM = 13  # of the seed, for the shuffle


def reordered(log: PackedLog, ties: Literal["file", "reversed", "shuffled"], *, seed: int) -> PackedLog:
    """The log with its ties in that order; `file` leaves it as it is. Otherwise its events are copied into memory.

    Raises SeqrecError for a log without times.
    """
    if ties == "file":
        return log
    tied_N = log.ties()
    if tied_N is None:
        raise SeqrecError(f"protocol.ties={ties}: {log.without_times}, so no ties; use protocol.ties=file")
    order_N = tie_order(tied_N, ties, seed=seed)
    requests = log.requests
    if requests is not None:
        new_N = np.empty_like(order_N)
        new_N[order_N] = np.arange(len(order_N))
        ends_R, clicked_R = np.array(requests.ends_R), (np.asarray(requests.labels_RC) > 0).any(axis=1)
        ends_R[clicked_R] = new_N[ends_R[clicked_R]]  # what was not clicked keeps its place among the events
        moved = replace(requests, ends_R=ends_R)
        requests = moved.at(np.argsort(moved.ends_R, kind="stable"))

    def taken(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else np.asarray(array)[order_N]

    return replace(
        log,
        items_N=np.asarray(log.items_N)[order_N],
        times_N=taken(log.times_N),
        ratings_N=taken(log.ratings_N),
        context_NF=taken(log.context_NF),
        sessions_N=taken(log.sessions_N),
        splits_N=taken(log.splits_N),
        weights_N=taken(log.weights_N),
        requests=requests,
    )


def tie_order(tied_N: np.ndarray, ties: Literal["reversed", "shuffled"], *, seed: int) -> np.ndarray:
    """Positions of the log's events in the new order; only events that tie with the one before change places."""
    run_N = np.cumsum(~tied_N)
    within_N = (
        -np.arange(len(run_N)) if ties == "reversed" else np.random.default_rng([seed, STREAM]).random(len(run_N))
    )
    return np.lexsort((within_N, run_N))
