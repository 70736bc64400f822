"""Click candidates, fixed when the data is prepared: each held-out event beside uniform items its user never met.

Legend: R evaluated users, C = 1 + click_negatives candidates, the held-out item first.
"""

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import LabelledRows, PackedLog
from seqrec_cli.data.negatives import MetItems, draw_unmet
from seqrec_cli.data.splits import HeldOut, evaluated_rows

SPLITS: tuple[HeldOut, ...] = ("val", "test")


def fixed_candidates(
    offsets_U1: np.ndarray, items_N: np.ndarray, num_items: int, count: int, seed: int
) -> dict[str, LabelledRows]:
    """Candidates of every evaluated user for both splits; 0 where a user has met every item."""
    rows_R = evaluated_rows(offsets_U1)
    met = MetItems.of(offsets_U1, items_N, num_items)
    clicks: dict[str, LabelledRows] = {}
    for back, split in enumerate(reversed(SPLITS), 1):
        ends_R = offsets_U1[rows_R + 1] - back
        negatives_RK = draw_unmet(rows_R, count, met, np.random.default_rng([seed, back]))
        items_RC = np.concatenate([items_N[ends_R][:, None], negatives_RK], axis=1).astype(np.int32)
        labels_RC = np.zeros(items_RC.shape, np.float32)
        labels_RC[:, 0] = 1
        clicks[split] = LabelledRows(rows_R, ends_R, items_RC, labels_RC)
    return clicks


def refuse_single_class(log: PackedLog) -> None:
    """Raises SeqrecError when a split's labels are all positive or all negative: no click metric could be had."""
    for split, rows in log.clicks.items():
        real_RC = np.asarray(rows.items_RC) > 0
        positives = int(np.count_nonzero((np.asarray(rows.labels_RC) > 0) & real_RC))
        if positives in (0, int(np.count_nonzero(real_RC))):
            only = "positive" if positives else "negative"
            raise SeqrecError(
                f"all click labels of split={split} are {only}, so nothing is to be told apart; give data with both "
                "(users who have met every item have no negatives)"
            )
