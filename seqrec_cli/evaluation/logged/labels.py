"""Labels of shown items whose mean over logs is their relevance: what an unbiased click loss is taught.

The binary cross-entropy is linear in its label, so a loss of corrected labels is the corrected loss. With c the click,
p the chance that its place was looked at, r an outcome model's relevance, and 1/p no larger than a bound:

- ips: c / p (Saito et al., WSDM 2020, arXiv 1909.03601, eq. 8, for places instead of items' exposure)
- dr: r + (c - p r) / p (Oosterhuis, TOIS 2023, arXiv 2203.17118, of a policy with one order): the outcome model stands
  in for what the bound cuts off, and cancels elsewhere, since nobody sees whether an item was looked at

Such labels may lie outside of 0 and 1; `objectives/unbiased_click.py` says what its loss makes of that.

Legend: R requests, C places.
"""

from dataclasses import replace

import numpy as np

from seqrec_cli.data.view import LabelledRows


def corrected(
    rows: LabelledRows, looked_C: np.ndarray, *, clip: float, relevance_RC: np.ndarray | None = None
) -> LabelledRows:
    """The rows with labels by ips, or by dr where there is an outcome model's relevance."""
    clicks_RC = np.asarray(rows.labels_RC, np.float64)
    weights_C = np.minimum(1 / looked_C, clip)
    labels_RC = clicks_RC * weights_C
    if relevance_RC is not None:
        labels_RC = relevance_RC + (clicks_RC - looked_C * relevance_RC) * weights_C
    return replace(rows, labels_RC=np.where(np.asarray(rows.items_RC) > 0, labels_RC, 0).astype(np.float32))
