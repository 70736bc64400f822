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
    """A user's last request with a click tests, the second-last validates; no event from the validation request on
    trains. Rows that were not clicked go with the next click; those after a user's last with the test request."""
    rows_Q, ends_Q = np.asarray(requests.rows_R), np.asarray(requests.ends_R)
    rows_P, ends_P = _clicked(requests)
    counts_U = np.bincount(rows_P, minlength=log.num_users)
    left_P = np.cumsum(counts_U)[rows_P] - 1 - np.arange(len(rows_P))  # requests after this one
    left_P[counts_U[rows_P] < MIN_EVENTS] = MIN_EVENTS
    val, test = (Targets.next_events(rows_P[left_P == left], ends_P[left_P == left]) for left in (1, 0))
    train_U = np.asarray(log.offsets_U1)[1:].copy()
    val_from_U, test_from_U = np.full((2, log.num_users), len(log.items_N) + 1)
    train_U[val.rows_R] = val_from_U[val.rows_R] = val.ends_R
    test_from_U[test.rows_R] = test.ends_R
    part_Q = (ends_Q >= val_from_U[rows_Q]).astype(np.int64) + (ends_Q >= test_from_U[rows_Q])
    return Split(train_U, val, test, _by_part(requests, part_Q))


def split_users(log: PackedLog, requests: LabelledRows, *, share: float, seed: int) -> Split:
    """All requests of a share of the users validate, of as many others test; a user's last click is ranked."""
    rows_Q = np.asarray(requests.rows_R)
    rows_P, ends_P = _clicked(requests)
    lasts_U = np.zeros(log.num_users, np.int64)
    lasts_U[rows_P] = ends_P  # the last of a user's stays
    drawn = draw_users(np.flatnonzero(np.bincount(rows_P, minlength=log.num_users)), share=share, seed=seed)
    train_U = np.asarray(log.offsets_U1)[1:].copy()
    part_U = np.zeros(log.num_users, np.int64)
    for part, users in enumerate(drawn, 1):
        part_U[users] = part
        train_U[users] = log.offsets_U1[users]
    val, test = (Targets.next_events(users, lasts_U[users]) for users in drawn)
    return Split(train_U, val, test, _by_part(requests, part_U[rows_Q]))


def _clicked(requests: LabelledRows) -> tuple[np.ndarray, np.ndarray]:
    """User rows and positions of the requests with a click, which are events of the log."""
    clicked_Q = (np.asarray(requests.labels_RC) > 0).any(axis=1)
    return np.asarray(requests.rows_R)[clicked_Q], np.asarray(requests.ends_R)[clicked_Q]


def _by_part(requests: LabelledRows, part_Q: np.ndarray) -> dict[str, LabelledRows]:
    return {split: requests.at(part_Q == part) for part, split in enumerate(("train", "val", "test"))}
