"""Each user's history divided by a ratio: a last share tests, an equal share before it validates, the rest trains."""

from typing import Literal

import numpy as np
from pydantic import Field

from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import MIN_EVENTS
from seqrec_cli.protocols.last_k import split_at_ends
from seqrec_cli.protocols.view.split import Split

HELD_OUT = "by ratio: a last share of each user's events test, an equal share before it validation"
TARGETS = {
    "val": "the {share:.0%} before each user's last {share:.0%} of events ({targets})",
    "test": "each user's last {share:.0%} of events ({targets})",
}


class Config(ProtocolConfig):
    """How much is held out, and how it is asked for."""

    share: float = Field(gt=0, lt=0.5, description="the share of a user's events that tests, and that validates")
    targets: Literal["successive", "all"] = Field(
        description="each held-out event after all before it; or all of them at once, after what precedes them"
    )


def hold_out(cfg: Config, log: PackedLog) -> Split:
    """At least one event each, and one to train; users with fewer than three events only train."""
    offsets_U1 = np.asarray(log.offsets_U1)
    lengths_U = np.diff(offsets_U1)
    held_U = np.minimum(np.maximum((lengths_U * cfg.share).astype(np.int64), 1), np.maximum(lengths_U - 1, 0) // 2)
    held_U = np.where(lengths_U >= MIN_EVENTS, held_U, 0)
    return split_at_ends(cfg.targets, offsets_U1, held_U, test_U=held_U)
