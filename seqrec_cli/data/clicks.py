"""Click candidates, fixed when the data is prepared: each held-out event beside uniform items its user never met.

Legend: R evaluated users, C = 1 + click_negatives candidates, the held-out item first.
"""

import numpy as np

from seqrec_cli.data.interactions import LabelledRows
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
