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


def log_shares(model: Recommender, batch: Batch, max_length: int, *, items_BC: Tensor | None = None) -> Tensor:
    """A model's log-probabilities [B, C] of these items after its latest `max_length` events; without them of all,
    [B, V + 1], where column 0 means nothing."""
    scores_BV = model.score_corpus(latest_events(batch, max_length))
    with full_precision(scores_BV.device):
        scores_BV = scores_BV.float()
        asked_BC = scores_BV if items_BC is None else scores_BV.gather(1, items_BC)
        if not model.scores_are_weights:
            return asked_BC - scores_BV[:, 1:].logsumexp(1, keepdim=True)
        return (asked_BC / scores_BV[:, 1:].sum(1, keepdim=True).clamp(min=1e-12) + LEAST).log()


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
        return self._summed(batch, None)

    def score(self, batch: Batch, items_BC: Tensor) -> Tensor:
        return self._summed(batch, items_BC)

    def _summed(self, batch: Batch, items_BC: Tensor | None) -> Tensor:
        """One member after the other, for scores of a large corpus are large."""
        columns = self.num_items + 1 if items_BC is None else items_BC.shape[1]
        sums_BC = batch.items_BL.new_zeros(
            (batch.items_BL.shape[0], columns), dtype=torch.float32
        )  # all before training
        for key in self.members:
            sums_BC += self.weights[key] * self.shares(key, batch, items_BC=items_BC)
        return sums_BC

    def shares(self, key: str, batch: Batch, *, items_BC: Tensor | None = None) -> Tensor:
        """One member's log-probabilities, of these items or of all."""
        member = self.members[key]
        assert isinstance(member, Recommender)
        return log_shares(member, batch, self.lengths[key], items_BC=items_BC)
