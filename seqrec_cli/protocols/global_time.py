"""One cut in time for all users, as a deployed model meets it: nothing at or after the cut trains anything.

After "Time to Split: Exploring Data Splitting Strategies for Offline Evaluation of Sequential Recommenders" (Gusak et
al., RecSys 2025, arXiv 2507.16289): the targets are a user's last, first or a random event after the cut, every one of
them after all before it (successive), or all as one request's answers. The checkpoint is chosen by a second cut before
the first (by_time), by each user's last event before the cut (last_train_event), or by users who do not train
(by_users). Deviation: the model that was chosen is not trained again on the validation events.

The vocabulary and the k-core are the dataset's, so an item may be met that never trained: it is counted as cold.
"""

from datetime import UTC, datetime
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.view import Targets
from seqrec_cli.protocols.view.split import Choice, Spans, Split, choose, draw_users, positions_from, times_of

HELD_OUT = "by time: nothing at or after one cut for all users trains"
TARGETS = {
    "val": "events before the cut in time (validation {validation})",
    "test": "events after one cut in time ({targets})",
}


class Config(ProtocolConfig):
    """Where the cut is, which events after it are targets, and what validates."""

    needs_times: ClassVar[bool] = True

    cut: float | str = Field(
        description="the moment from which events test: a quantile of all events' times, or a date (ISO 8601, UTC)"
    )
    targets: Choice = Field(
        description="of a user's events after the cut: the last, the first, a random one, each in turn (successive), "
        "or all at once"
    )
    validation: Literal["by_time", "last_train_event", "by_users"] = Field(
        description="by a second cut before the first; by each user's last event before the cut; or by users of whom "
        "no event trains, their last event before the cut"
    )
    validation_cut: float = Field(
        gt=0, lt=1, description="validation=by_time: the second cut, a quantile of the times before the first"
    )
    held_out_users: float = Field(gt=0, lt=0.5, description="validation=by_users: the share of users that validates")

    @field_validator("cut")
    @classmethod
    def _a_quantile_or_a_date(cls, cut: float | str) -> float | str:
        if isinstance(cut, str):
            try:
                datetime.fromisoformat(cut)
            except ValueError:
                raise ValueError(f"protocol.cut={cut} is no date; write it as 2024-06-30 or 2024-06-30T12:00") from None
        elif not 0 < cut < 1:
            raise ValueError(f"protocol.cut={cut} must be a quantile between 0 and 1, or a date such as 2024-06-30")
        return cut


def hold_out(cfg: Config, log: PackedLog) -> Split:
    """Raises SeqrecError for a log without times, and for a date outside the log."""
    times_N = times_of(log, cfg.name)
    offsets_U1 = np.asarray(log.offsets_U1)
    moment = cut_time(times_N, cfg.cut)
    tests_from_U = positions_from(log, times_N, moment)
    cut_times = {"test": moment}
    rng = np.random.default_rng([cfg.seed, 11])
    test = choose(Spans(tests_from_U, offsets_U1[1:]), offsets_U1, cfg.targets, rng=rng)
    if cfg.validation == "by_time":
        before = times_N[times_N < moment]
        cut_times["val"] = cut_time(before, cfg.validation_cut) if len(before) else moment
        train_U = positions_from(log, times_N, cut_times["val"])
        val = choose(Spans(train_U, tests_from_U), offsets_U1, cfg.targets, rng=rng)
    else:
        train_U, val = _last_before_the_cut(cfg, offsets_U1, tests_from_U)
    late = int(((tests_from_U == offsets_U1[:-1]) & (np.diff(offsets_U1) > 0)).sum())
    notes = (f"{late:,} users begin after the cut: their first event has no history and is no target",) if late else ()
    return Split(train_U, val, test, cut_times=cut_times, notes=notes)  # type: ignore[arg-type]


def cut_time(times_N: np.ndarray, cut: float | str) -> int:
    """The moment, in seconds: the time of the event at this quantile, or midnight (UTC) of a date."""
    if isinstance(cut, str):
        date = datetime.fromisoformat(cut)
        moment = int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())
        first, last = int(times_N.min()), int(times_N.max())
        if not first < moment <= last:
            lasts = " to ".join(datetime.fromtimestamp(t, UTC).date().isoformat() for t in (first, last))
            raise SeqrecError(f"protocol.cut={cut} is outside the log, which lasts from {lasts}; give a date between")
        return moment
    position = min(int(len(times_N) * cut), len(times_N) - 1)
    return int(np.partition(times_N, position)[position])


def _last_before_the_cut(cfg: Config, offsets_U1: np.ndarray, tests_from_U: np.ndarray) -> tuple[np.ndarray, Targets]:
    enough = np.flatnonzero(tests_from_U - offsets_U1[:-1] >= 2)
    train_U = tests_from_U.copy()
    if cfg.validation == "by_users":
        enough, _ = draw_users(enough, share=cfg.held_out_users, seed=cfg.seed)
        train_U[enough] = offsets_U1[enough]
    else:
        train_U[enough] -= 1
    return train_U, Targets.next_events(enough, tests_from_U[enough] - 1)
