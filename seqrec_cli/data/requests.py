"""Logged requests as labelled rows: the clicked item against the others that were shown.

Legend: N raw events, Q requests, S items shown, C the most items a request showed.
"""

import numpy as np

from seqrec_cli.data.interactions import LabelledRows
from seqrec_cli.data.raw import Impressions


def labelled_requests(
    impressions: Impressions, shown_S: np.ndarray, positions_N: np.ndarray, rows_K: np.ndarray, items_K: np.ndarray
) -> LabelledRows:
    """The requests whose events are in the log, in its order.

    `shown_S` item indices, `positions_N` each raw event's log position (-1: filtered out), `rows_K`, `items_K` the
    log's user rows and items by position.
    """
    places_Q = positions_N[impressions.events_Q]
    kept_Q = np.flatnonzero(places_Q >= 0)
    kept_Q = kept_Q[np.argsort(places_Q[kept_Q], kind="stable")]
    starts_Q, ends_Q = impressions.offsets_Q1[kept_Q], places_Q[kept_Q]
    counts_Q = impressions.offsets_Q1[kept_Q + 1] - starts_Q
    columns_C = np.arange(int(counts_Q.max(initial=1)))
    real_QC = columns_C < counts_Q[:, None]
    items_QC = shown_S[np.minimum(starts_Q[:, None] + columns_C, len(shown_S) - 1)]
    items_QC = np.where(real_QC, items_QC, 0).astype(np.int32)
    labels_QC = (items_QC == items_K[ends_Q][:, None]).astype(np.float32)
    return LabelledRows(rows_K[ends_Q], ends_Q, items_QC, labels_QC)
