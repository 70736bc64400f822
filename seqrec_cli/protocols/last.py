"""DIEN's protocol: users are split, and each user's last event stands beside one negative drawn by popularity.

Zhou et al. 2019 (arXiv 1809.03672) and its published preparation, which excludes the target alone from the draw and has
no validation. Popularity is how often an item occurs in the log.

Legend: U users, R labelled rows.
"""

from typing import ClassVar

import numpy as np
from pydantic import Field

from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.view import Targets
from seqrec_cli.protocols.view.candidates import Sampler
from seqrec_cli.protocols.view.split import Split, draw_users

HELD_OUT = "by user: the last event of held-out users, who do not train"
TARGETS = {
    "val": "the last event of users who did not train",
    "test": "the last event of users who did not train",
}
CANDIDATES = "one negative beside each user's last event, {negatives}, by popularity"


class Config(ProtocolConfig):
    """Which users are held out."""

    fixes_training_rows: ClassVar[bool] = True
    splits_users: ClassVar[bool] = True
    one_negative: ClassVar[bool] = True

    held_out_users: float = Field(gt=0, lt=0.5, description="the share of users that validates, and that tests")


def hold_out(cfg: Config, log: PackedLog) -> Split:
    """Users with one event have no history and only train."""
    offsets_U1 = np.asarray(log.offsets_U1)
    several = np.diff(offsets_U1) > 1
    drawn = draw_users(np.flatnonzero(several), share=cfg.held_out_users, seed=cfg.seed)
    train_U = offsets_U1[1:].copy()
    for users in drawn:
        train_U[users] = offsets_U1[users]
    train_R = np.flatnonzero(several & (train_U == offsets_U1[1:]))
    val, test = (Targets.next_events(users, offsets_U1[users + 1] - 1) for users in drawn)
    found = {"train": (train_R, offsets_U1[train_R + 1] - 1), "val": (val.rows_R, val.ends_R)}
    found["test"] = (test.rows_R, test.ends_R)
    sampler = Sampler.of(cfg, log, pool_N=np.asarray(log.items_N))
    clicks = {
        split: sampler.labelled(rows_R, ends_R, negatives=1, stream=4 + number)
        for number, (split, (rows_R, ends_R)) in enumerate(found.items())
    }
    return Split(train_U, val, test, clicks)
