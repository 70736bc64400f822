"""What an adviser is told of the data: counts of what trains, and no id.

Legend: U users, V items.
"""

import numpy as np

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import held_out, training_counts, user_training_counts

HEAD = 100  # the most popular one item in so many


def statistics_of(log: PackedLog) -> dict[str, str]:
    """In words, by what they are of. Held-out events are counted as requests of validation, and nothing else."""
    lengths_U = user_training_counts(log)[1:]
    lengths_U = lengths_U[lengths_U > 0]
    counts_V = np.sort(training_counts(log)[1:])[::-1]
    events, trained = int(lengths_U.sum()), int((counts_V > 0).sum())
    head = max(log.num_items // HEAD, 1)
    share = counts_V[:head].sum() / max(events, 1)
    at = {share: int(np.quantile(lengths_U, share)) for share in (0.5, 0.95)} if len(lengths_U) else {0.5: 0, 0.95: 0}
    return {
        "users": f"{len(lengths_U):,}",
        "items": f"{log.num_items:,}, of which {trained:,} have training events",
        "training events": f"{events:,}",
        "training events a user": f"{at[0.5]:,} (median), {at[0.95]:,} (95 of 100 have no more)",
        "training events an item": f"{int(np.median(counts_V)) if len(counts_V) else 0:,} (median)",
        "popularity": f"the first {head:,} items have {share:.0%} of the training events",
        "validation requests": f"{len(held_out(log, 'val').rows_R):,}",
    }
