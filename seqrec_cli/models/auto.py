"""A portfolio: the weighted sum of several models' log-probabilities of the next item, their product of experts.

Encoders' scores are logits, so their log-softmax over the corpus is such a log-probability. Counted weights are divided
by their sum, and a little is added to each, so that an item that one model knows nothing of is not ruled out by it.

Legend: B rows, C candidates, V items.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from seqrec_cli.config.model.auto import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.build import model_of
from seqrec_cli.models.contract import ClosedFormModel, Recommender, full_precision
from seqrec_cli.models.windows import latest_events
from seqrec_cli.saying import Say, silent

LEAST = 1e-5  # of a share, for what a counting model has not seen


def log_shares(model: Recommender, batch: Batch, max_length: int) -> Tensor:
    """A model's log-probabilities [B, V + 1] after its latest `max_length` events; column 0 means nothing."""
    scores_BV = model.score_corpus(latest_events(batch, max_length))
    with full_precision(scores_BV.device):
        scores_BV = scores_BV.float()
        if not model.scores_are_weights:
            return scores_BV - scores_BV[:, 1:].logsumexp(1, keepdim=True)
        return (scores_BV / scores_BV[:, 1:].sum(1, keepdim=True).clamp(min=1e-12) + LEAST).log()


class Model(ClosedFormModel):
    """The kept models; nothing is left to train when they stand in one."""

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.members = nn.ModuleDict({key: model_of(member, catalog) for key, member in cfg.members.items()})
        self.lengths = {key: member.max_length for key, member in cfg.members.items()}
        self.weights = dict(cfg.weights)
        self.sees_target_time = any(member.sees_target_time for member in self.members.values())

    def fit_closed_form(self, histories: Iterable[Tensor], tell: Say = silent) -> None:
        kept = list(histories)
        for member in self.members.values():
            assert isinstance(member, Recommender)
            member.fit_closed_form(kept, tell)

    def score_corpus(self, batch: Batch) -> Tensor:
        if not self.members:  # before training
            return torch.zeros((batch.items_BL.shape[0], self.num_items + 1), device=batch.items_BL.device)
        parts = [self.weights[key] * self.shares(key, batch) for key in self.members]
        return torch.stack(parts).sum(0)

    def shares(self, key: str, batch: Batch) -> Tensor:
        """One member's log-probabilities [B, V + 1]."""
        member = self.members[key]
        assert isinstance(member, Recommender)
        return log_shares(member, batch, self.lengths[key])
