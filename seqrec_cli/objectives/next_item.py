"""Next item at every position, softmax over the whole corpus.

The SASRec+ objective (Klenitskiy & Vasilev 2023, arXiv 2309.07602), here without the B x L x V logits.
"""

from seqrec_cli.objectives.estimated_softmax import EstimatedSoftmax


class Objective(EstimatedSoftmax):
    """Mean cross-entropy over all targets of the batch."""
