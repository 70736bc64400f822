"""Best so far, patience, and metrics that fall."""

import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.training.stopping import Stopping


def feed(stopping: Stopping, values: list[float]) -> list[bool]:
    return [stopping.update({stopping.monitor: value}, epoch) for epoch, value in enumerate(values, start=1)]


def test_higher_is_better_and_ties_keep_the_earlier() -> None:
    stopping = Stopping("ndcg@10", patience=2)
    assert feed(stopping, [0.1, 0.3, 0.3]) == [True, True, False]
    assert (stopping.best_epoch, stopping.best_metrics, stopping.exhausted) == (2, {"ndcg@10": 0.3}, False)
    assert feed(stopping, [0.2]) == [False]
    assert stopping.exhausted


def test_logloss_falls() -> None:
    stopping = Stopping("logloss", patience=None)
    assert feed(stopping, [0.7, 0.6, 0.65]) == [True, True, False]
    assert stopping.best_metrics == {"logloss": 0.6}
    assert not stopping.exhausted


def test_state_goes_over_to_another_run() -> None:
    first, second = Stopping("auc", patience=2), Stopping("auc", patience=2)
    feed(first, [0.6, 0.5])
    second.restore(first.state())
    assert not second.update({"auc": 0.55}, 3)
    assert second.exhausted
    assert second.best_epoch == 1


def test_a_metric_that_is_missing_or_undefined_is_refused() -> None:
    stopping = Stopping("auc", patience=2)
    with pytest.raises(SeqrecError, match=r"trainer\.monitor=auc.*have: mrr"):
        stopping.update({"mrr": 0.1}, 1)
    with pytest.raises(SeqrecError, match="undefined"):
        stopping.update({"auc": float("nan")}, 1)
