"""Splits of logged requests: what was clicked against what was shown. `impressions` and `impressions_by_user` share it.

Legend: U users, Q requests in order of users and time.
"""

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import MIN_EVENTS
from seqrec_cli.data.view import LabelledRows, Targets
from seqrec_cli.protocols.view.split import Split, draw_users

CANDIDATES = "logged impressions: clicked against shown"


def requests_of(cfg: ProtocolConfig, log: PackedLog) -> LabelledRows:
    """The log's requests; SeqrecError where it has none."""
    if log.requests is None or not len(log.requests.rows_R):
        raise SeqrecError(f"protocol={cfg.name} needs logged impressions, and the log has none; use protocol=positions")
    return log.requests


def split_last_requests(log: PackedLog, requests: LabelledRows) -> Split:
    """A user's last request tests, the second-last validates; no event from the validation request on trains."""
    rows_Q, ends_Q = np.asarray(requests.rows_R), np.asarray(requests.ends_R)
    counts_U = np.bincount(rows_Q, minlength=log.num_users)
    left_Q = np.cumsum(counts_U)[rows_Q] - 1 - np.arange(len(rows_Q))  # requests after this one
    enough_Q = counts_U[rows_Q] >= MIN_EVENTS
    part_Q = np.where(enough_Q & (left_Q < 2), 2 - left_Q, 0)
    val, test = (Targets.next_events(rows_Q[part_Q == part], ends_Q[part_Q == part]) for part in (1, 2))
    train_U = np.asarray(log.offsets_U1)[1:].copy()
    train_U[val.rows_R] = val.ends_R
    return Split(train_U, val, test, _by_part(requests, part_Q))


def split_users(log: PackedLog, requests: LabelledRows, *, share: float, seed: int) -> Split:
    """All requests of a share of the users validate, of as many others test; a user's last request is ranked."""
    rows_Q, ends_Q = np.asarray(requests.rows_R), np.asarray(requests.ends_R)
    lasts_U = np.zeros(log.num_users, np.int64)
    lasts_U[rows_Q] = ends_Q  # the last of a user's stays
    drawn = draw_users(np.flatnonzero(np.bincount(rows_Q, minlength=log.num_users)), share=share, seed=seed)
    train_U = np.asarray(log.offsets_U1)[1:].copy()
    part_U = np.zeros(log.num_users, np.int64)
    for part, users in enumerate(drawn, 1):
        part_U[users] = part
        train_U[users] = log.offsets_U1[users]
    val, test = (Targets.next_events(users, lasts_U[users]) for users in drawn)
    return Split(train_U, val, test, _by_part(requests, part_U[rows_Q]))


def _by_part(requests: LabelledRows, part_Q: np.ndarray) -> dict[str, LabelledRows]:
    return {split: requests.at(part_Q == part) for part, split in enumerate(("train", "val", "test"))}
