"""DIN's protocol: leave-last-out, and one fixed uniform negative beside every event, in training too.

Zhou et al. 2018 (arXiv 1706.06978) and the published preparation of Amazon Electronics. Here a training negative is
unseen among the user's training events alone, so that no held-out event shows in the training rows, and the second-last
event validates instead of training.

Legend: R labelled rows.
"""

from typing import ClassVar

from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import leave_last, training_targets
from seqrec_cli.protocols.view.candidates import Sampler, held_out_candidates
from seqrec_cli.protocols.view.split import Split

HELD_OUT = "leave-last-out: last event test, second-last validation"
TARGETS = {
    "val": "each user's last event but one",
    "test": "each user's last event",
}
CANDIDATES = "one uniform negative beside each event: held-out ones {negatives}, training ones fixed too"


class Config(ProtocolConfig):
    """Nothing beyond what every protocol has."""

    fixes_training_rows: ClassVar[bool] = True
    one_negative: ClassVar[bool] = True


def hold_out(cfg: Config, log: PackedLog) -> Split:
    """Users with fewer than three events only train."""
    view = leave_last(log.offsets_U1)
    rows_R, ends_R = training_targets(log.offsets_U1, view.train_U)
    clicks = held_out_candidates(cfg, log, {"val": view.val, "test": view.test})
    in_training = Sampler.of(cfg, log, ends_U=view.train_U)
    clicks["train"] = in_training.labelled(rows_R, ends_R, negatives=1, stream=3)
    return Split(view.train_U, view.val, view.test, clicks)
