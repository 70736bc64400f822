"""Leave-last-out: a user's last event is the test target, the second-last the validation target, the rest trains.

What next-item encoders are published with (Kang & McAuley, ICDM 2018; Sun et al., CIKM 2019). It trains on other users'
future, which a deployed model does not have: see `global_time`.
"""

from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import leave_last
from seqrec_cli.protocols.view.split import Split

HELD_OUT = "leave-last-out: last event test, second-last validation"
TARGETS = {
    "val": "each user's last event but one",
    "test": "each user's last event",
}


class Config(ProtocolConfig):
    """Nothing beyond what every protocol has."""


def hold_out(cfg: Config, log: PackedLog) -> Split:
    """Users with fewer than three events only train."""
    view = leave_last(log.offsets_U1)
    return Split(view.train_U, view.val, view.test)
