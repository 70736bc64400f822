"""Guess the hidden events of a history from all others, softmax over the whole corpus: BERT4Rec's objective.

Sun et al. 2019, arXiv 1904.06690, eq. 8, and section 3.6 for rows that hide their final event alone. The paper masks
every chosen event (`random: 0`, `keep: 0`); 80 % masked, 10 % random, 10 % kept is BERT's rule (arXiv 1810.04805) and
that of the authors' code. Events are hidden by the loader (`data/cloze_rows`); logits exist at hidden events only.
"""

from seqrec_cli.config.objective.cloze import Config
from seqrec_cli.data.cloze_rows import Masking
from seqrec_cli.objectives.estimated_softmax import EstimatedSoftmax


class Objective(EstimatedSoftmax):
    """Mean cross-entropy over the hidden events of the batch."""

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.masking = Masking(cfg.mask, cfg.random, cfg.keep, cfg.last)
