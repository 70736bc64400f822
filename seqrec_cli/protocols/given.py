"""The log's own split: its files (or a column) say which events train, which validate and which test.

Each user's held-out events are asked for after all that precedes them: training events, then those that validate, then
those that test, as published splits are made (RecBole's benchmark files, LightGCN's train.txt and test.txt).
"""

from typing import Literal

import numpy as np
from pydantic import Field

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.view import Targets
from seqrec_cli.protocols.view.split import Choice, Spans, Split, choose

HELD_OUT = "as the log's own files say"
TARGETS = {
    "val": "the events that validate (validation {validation}, {targets})",
    "test": "the events that test ({targets})",
}
NEEDS = (
    "protocol=given needs a log that is split: dataset.test_file (and valid_file) beside the archive, a folder with "
    "train, valid and test files, or dataset.split_column"
)


class Config(ProtocolConfig):
    """What is asked of the held-out events, and what validates."""

    targets: Choice = Field(
        description="of a user's held-out events: the last, the first, a random one, each in turn (successive), or all "
        "at once"
    )
    validation: Literal["given", "last_train_event"] = Field(
        description="the events that the log's own split validates by; or each user's last training event"
    )


def hold_out(cfg: Config, log: PackedLog) -> Split:
    """A held-out event of a user without an earlier one is no target. Raises SeqrecError for a log without a split."""
    if log.splits_N is None:
        raise SeqrecError(NEEDS)
    offsets_U1, splits_N = np.asarray(log.offsets_U1), np.asarray(log.splits_N)
    train_U, tests_from_U = (_first_from(offsets_U1, splits_N, split) for split in (1, 2))
    rng = np.random.default_rng([cfg.seed, 11])
    test = choose(Spans(tests_from_U, offsets_U1[1:]), offsets_U1, cfg.targets, rng=rng)
    if cfg.validation == "given":
        val = choose(Spans(train_U, tests_from_U), offsets_U1, cfg.targets, rng=rng)
    else:
        enough = np.flatnonzero(train_U - offsets_U1[:-1] >= 2)
        train_U[enough] -= 1
        val = Targets.next_events(enough, train_U[enough])
    _refuse_none(cfg, val, test)
    late = int(((train_U == offsets_U1[:-1]) & (np.diff(offsets_U1) > 0)).sum())
    notes = (f"{late:,} users have no training event: their first event has no history and is no target",) * bool(late)
    return Split(train_U, val, test, notes=notes)


def _first_from(offsets_U1: np.ndarray, splits_N: np.ndarray, split: int) -> np.ndarray:
    """The position of each user's first event of this split or a later one; their end where there is none, [U]."""
    before_N1 = np.concatenate([[0], np.cumsum(splits_N < split)])
    found: np.ndarray = offsets_U1[:-1] + before_N1[offsets_U1[1:]] - before_N1[offsets_U1[:-1]]
    return found


def _refuse_none(cfg: Config, val: Targets, test: Targets) -> None:
    if not len(test.rows_R):
        raise SeqrecError("protocol=given: no event that tests has an earlier one of its user; are they of one log?")
    if not len(val.rows_R):
        remedy = (
            "set protocol.validation=last_train_event, by which each user's last training event validates"
            if cfg.validation == "given"
            else "nobody has two training events"
        )
        raise SeqrecError(f"protocol=given: no event validates; {remedy}")
