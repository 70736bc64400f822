"""Leave-last-k-out: a user's last k events are test targets, the k before them validation targets, the rest trains."""

from typing import Literal

import numpy as np
from pydantic import Field

from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.protocols.view.split import Spans, Split, choose

HELD_OUT = "last k events test, the k before them validation"
TARGETS = {
    "val": "the k = {k} events before each user's last {k} ({targets})",
    "test": "each user's last {k} events ({targets})",
}


class Config(ProtocolConfig):
    """How many events are held out, and how they are asked for."""

    k: int = Field(ge=1, description="held-out events a user: so many test, and the same number before them validate")
    targets: Literal["successive", "all"] = Field(
        description="each held-out event after all before it; or all of them at once, after what precedes them"
    )


def hold_out(cfg: Config, log: PackedLog) -> Split:
    """Users with fewer than 2 k + 1 events only train."""
    offsets_U1 = np.asarray(log.offsets_U1)
    held_U = np.where(np.diff(offsets_U1) >= 2 * cfg.k + 1, cfg.k, 0)
    return split_at_ends(cfg.targets, offsets_U1, held_U, test_U=held_U)


def split_at_ends(
    targets: Literal["successive", "all"], offsets_U1: np.ndarray, val_U: np.ndarray, *, test_U: np.ndarray
) -> Split:
    """A user's last `test_U` events test, the `val_U` before them validate, those before train."""
    tests_from_U = offsets_U1[1:] - test_U
    validates_from_U = tests_from_U - val_U
    rng = np.random.default_rng(0)  # nothing is drawn
    val = choose(Spans(validates_from_U, tests_from_U), offsets_U1, targets, rng=rng)
    test = choose(Spans(tests_from_U, offsets_U1[1:]), offsets_U1, targets, rng=rng)
    return Split(validates_from_U, val, test)
