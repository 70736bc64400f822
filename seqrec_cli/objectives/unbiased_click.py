"""Click prediction from lists that another system ordered: the binary cross-entropy of labels that undo position bias.

Unbiased pointwise learning (Saito et al., WSDM 2020, arXiv 1909.03601, eq. 8) with the chances of places for those of
items, or, with an outcome model, its doubly robust form (Oosterhuis, TOIS 2023, arXiv 2203.17118). Labels are corrected
in the rows (`evaluation/logged/labels.py`) before the first step.

A deviation: a label y outside of 0 and 1 gives one of the loss's halves a negative factor, and the loss has no lower
bound (DIN on trivago's lists: logits of 10^5 within three epochs). Here no factor is below 0, as in non-negative risk
estimators (Kiryo et al., NeurIPS 2017, arXiv 1703.00593): a click at a place of chance p counts 1/p as a positive and
nothing as a negative one, instead of 1 - 1/p. Orders are learned as before; probabilities come out too low.
"""

import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.objectives import click


class Objective(click.Objective):
    """As `click`, for labels that may lie outside of 0 and 1."""

    def losses_of_candidates(self, logits_BC: Tensor, labels_BC: Tensor) -> Tensor:
        """-w max(y, 0) log s - max(1 - y, 0) log(1 - s), s the sigmoid of the logit, y the smoothed label, w the
        positive weight."""
        labels_BC = labels_BC * (1 - self.smoothing) + self.smoothing / 2
        clicked_BC = self.positive_weight * labels_BC.clamp(min=0) * F.softplus(-logits_BC)
        return clicked_BC + (1 - labels_BC).clamp(min=0) * F.softplus(logits_BC)
