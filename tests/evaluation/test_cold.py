"""Cold users and cold items have numbers of their own."""

from dataclasses import replace

import numpy as np
import torch

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.splits import leave_last
from seqrec_cli.evaluation.cold import cold_parts
from seqrec_cli.evaluation.evaluate import evaluate
from seqrec_cli.models.contract import Recommender


class ByNumber(Recommender):
    """Item 1 is the best, item 2 the second best, whoever asks."""

    def score_corpus(self, batch: Batch) -> torch.Tensor:
        return -torch.arange(self.num_items + 1.0).expand(len(batch), -1)

    def score(self, batch: Batch, items_BC: torch.Tensor) -> torch.Tensor:
        return -items_BC.float()


def test_cold_users_and_targets_have_rows_of_their_own(log_of, cfg, cpu):
    # Targets 3, 5 and 9. Item 9 never trains; the last user does not.
    log = log_of([[1, 2, 4, 3], [3, 5, 4, 1, 5], [5, 3, 1, 9]], 9)
    view = leave_last(log.offsets_U1)
    train_U = view.train_U.copy()
    train_U[2] = log.offsets_U1[2]
    log = replace(log, view=replace(log.view, train_U=train_U, seen="keep"))
    evaluation = evaluate(ByNumber(log.catalog), log, "test", cfg=cfg, max_length=5, precision=cpu)
    parts = cold_parts(evaluation, log)
    assert {label: part["targets"] for label, part in parts.items()} == {
        "warm users": 2,
        "cold users": 1,
        "warm targets": 2,
        "cold targets": 1,
    }
    assert evaluation.ranks.ranks_T.tolist() == [3, 5, 9]
    assert parts["cold users"]["mrr"] == parts["cold targets"]["mrr"] == 1 / 9
    assert parts["warm users"]["mrr"] == np.mean([1 / 3, 1 / 5])
    assert (parts["warm targets"]["hr@5"], parts["cold targets"]["hr@5"]) == (1, 0)
    assert "auc" not in parts["cold users"]


def test_without_cold_ones_there_are_no_parts(log_of, cfg, cpu):
    log = log_of([[1, 2, 3, 1, 2], [2, 1, 3, 2, 1]], 4)
    log = replace(log, view=replace(log.view, seen="keep"))
    evaluation = evaluate(ByNumber(log.catalog), log, "test", cfg=cfg, max_length=5, precision=cpu)
    assert cold_parts(evaluation, log) == {}
