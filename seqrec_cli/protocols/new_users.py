"""Users the model never saw: a share of them validates, another tests, and none of their events trains.

Their first events are folded in as a history, and the rest are targets ("strong generalization", Marlin 2004; Liang et
al., WWW 2018, arXiv 1802.05814, section 4.3, with 80 % folded in).
"""

from typing import ClassVar

import numpy as np
from pydantic import Field

from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.view import Targets
from seqrec_cli.protocols.view.split import Choice, Spans, Split, choose, draw_users

HELD_OUT = "by user: held-out users do not train, their first events are folded in"
TARGETS = {
    "val": "events of users who did not train, after the first {fold_in:.0%} ({targets})",
    "test": "events of users who did not train, after the first {fold_in:.0%} ({targets})",
}


class Config(ProtocolConfig):
    """Which users are held out, how much of them is folded in, and which of the rest are targets."""

    splits_users: ClassVar[bool] = True

    held_out_users: float = Field(gt=0, lt=0.5, description="the share of users that validates, and that tests")
    fold_in: float = Field(gt=0, lt=1, description="the share of a held-out user's events that is given as a history")
    targets: Choice = Field(
        description="of the events after those: the last, the first, a random one, each in turn (successive), or all "
        "at once"
    )


def hold_out(cfg: Config, log: PackedLog) -> Split:
    """Users with a single event train: they have no history to fold in."""
    offsets_U1 = np.asarray(log.offsets_U1)
    lengths_U = np.diff(offsets_U1)
    given_U = np.clip((lengths_U * cfg.fold_in).astype(np.int64), 1, np.maximum(lengths_U - 1, 1))
    drawn = draw_users(np.flatnonzero(lengths_U > 1), share=cfg.held_out_users, seed=cfg.seed)
    train_U, rng = offsets_U1[1:].copy(), np.random.default_rng([cfg.seed, 11])
    found: list[Targets] = []
    for users in drawn:
        train_U[users] = offsets_U1[users]
        starts_U = offsets_U1[1:].copy()
        starts_U[users] = offsets_U1[users] + given_U[users]
        found.append(choose(Spans(starts_U, offsets_U1[1:]), offsets_U1, cfg.targets, rng=rng))
    return Split(train_U, found[0], found[1])
