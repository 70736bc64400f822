"""Sessions, split by time: the next item inside a session, after all that the user did before.

A session is a run of a user's events without a longer pause, or the events of one value of the log's session column.
Sessions that end before the validation cut train; whatever is open at a cut or begins after it is held out
(session-based recommendation: Ludewig & Jannach, UMUAI 2018, arXiv 1803.09587, split by the last days).
"""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.data.context import DAY
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.view import HeldOut, Targets
from seqrec_cli.protocols.view.split import Split, times_of

HELD_OUT = "sessions, split by time: the next item inside held-out sessions"
TARGETS = {
    "val": "events of sessions open or begun between the cuts ({targets})",
    "test": "events of sessions not over at the cut ({targets})",
}


class Config(ProtocolConfig):
    """What makes a session, where time is cut, and which of a session's events are targets."""

    needs_times: ClassVar[bool] = True

    by: Literal["gap", "column"] = Field(
        description="a pause of `gap` minutes begins a session; or the log's own (dataset.session_column) does"
    )
    gap: float = Field(gt=0, description="by=gap: minutes without an event that end a session")
    cut: float = Field(gt=0, lt=1, description="sessions not over at this quantile of all times test")
    validation_cut: float = Field(
        gt=0, lt=1, description="those not over at this quantile of the times before validate"
    )
    targets: Literal["last", "successive"] = Field(
        description="of a held-out session's events: the last, or each but the first"
    )


def hold_out(cfg: Config, log: PackedLog) -> Split:
    """A session of one event has no target. Raises SeqrecError for a log without times or without the column."""
    times_N = times_of(log, cfg.name)
    starts_S, ends_S, rows_S = sessions(cfg, log, times_N)
    moment = int(np.quantile(times_N, cfg.cut, method="higher"))
    before = times_N[times_N < moment]
    validates_from = int(np.quantile(before, cfg.validation_cut, method="higher")) if len(before) else moment
    lasts_S = times_N[ends_S - 1]
    offsets_U1 = np.asarray(log.offsets_U1)
    train_U, tests_from_U = offsets_U1[1:].copy(), offsets_U1[1:].copy()
    for positions_U, cut in ((train_U, validates_from), (tests_from_U, moment)):
        open_S = np.flatnonzero(lasts_S >= cut)[::-1]  # a user's first of them stays
        positions_U[rows_S[open_S]] = starts_S[open_S]
    tests_S, held_S = starts_S >= tests_from_U[rows_S], starts_S >= train_U[rows_S]
    spans = {"val": held_S & ~tests_S, "test": tests_S}
    found = {
        split: _targets(cfg, rows_S[which], starts_S[which], ends_S=ends_S[which]) for split, which in spans.items()
    }
    days = ("all times are whole days: a session is a day",) if cfg.by == "gap" and not (times_N % DAY).any() else ()
    alone = int((held_S & (ends_S - starts_S == 1)).sum())
    notes = (f"{alone:,} held-out sessions have one event and ask for nothing",) if alone else ()
    cut_times: dict[HeldOut, int] = {"val": validates_from, "test": moment}
    return Split(train_U, found["val"], found["test"], cut_times=cut_times, notes=(*days, *notes))


def sessions(cfg: Config, log: PackedLog, times_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every session's first position, the position after its last, and its user row."""
    offsets_U1 = np.asarray(log.offsets_U1)
    begins_N = np.zeros(len(times_N), bool)
    begins_N[offsets_U1[:-1][np.diff(offsets_U1) > 0]] = True
    if cfg.by == "column":
        if log.sessions_N is None:
            raise SeqrecError("protocol.by=column: the log has no sessions of its own; use protocol.by=gap")
        begins_N[1:] |= np.diff(log.sessions_N) != 0
    else:
        begins_N[1:] |= np.diff(times_N) > cfg.gap * 60
    starts_S = np.flatnonzero(begins_N)
    return starts_S, np.append(starts_S[1:], len(times_N)), np.searchsorted(offsets_U1, starts_S, side="right") - 1


def _targets(cfg: Config, rows_S: np.ndarray, starts_S: np.ndarray, *, ends_S: np.ndarray) -> Targets:
    counts_S = ends_S - starts_S - 1
    if cfg.targets == "successive":
        return Targets.next_events(np.repeat(rows_S, counts_S), ragged_ranges(starts_S + 1, counts_S))
    return Targets.next_events(rows_S[counts_S > 0], ends_S[counts_S > 0] - 1)
