"""Until the view is in the log."""

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import ends_of
from seqrec_cli.data.view import Targets, View


def view_of(log: PackedLog) -> View:
    ends = ends_of(log)
    return View(ends.train_U, Targets.next_events(*ends.targets("val")), Targets.next_events(*ends.targets("test")))
