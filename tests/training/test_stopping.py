"""Best so far, patience, and metrics that fall."""

import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.training.stopping import Plateau, Stopping


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


def test_an_offer_can_be_the_best_and_costs_no_patience() -> None:
    stopping = Stopping("auc", patience=2)
    feed(stopping, [0.6, 0.5])
    assert not stopping.offer({"auc": 0.6}, 2)
    assert stopping.offer({"auc": 0.7}, 2)
    assert (stopping.best_epoch, stopping.best_metrics, stopping.since_best) == (2, {"auc": 0.7}, 1)


def test_the_rate_falls_after_each_spell_without_improvement() -> None:
    plateau, scales = Plateau(2, 0.5), []
    for improved in (True, False, False, False, True, False, False, False, False):
        plateau.update(improved)
        scales.append(plateau.scale)
    assert scales == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_without_a_plateau_the_rate_stays() -> None:
    plateau = Plateau(None, 0.5)
    for _ in range(50):
        plateau.update(False)
    assert plateau.scale == 1.0


def test_a_plateau_s_state_goes_over_to_another_run() -> None:
    first, second = Plateau(2, 0.1), Plateau(2, 0.1)
    for improved in (True, False, False, False):
        first.update(improved)
    second.restore(first.state())
    second.update(False)
    assert second.scale == pytest.approx(0.01)


def test_a_run_may_be_chosen_by_its_loss() -> None:
    stopping = Stopping("loss", patience=None)
    assert feed(stopping, [7.0, 6.5, 6.8]) == [True, True, False]
    assert stopping.best_metrics == {"loss": 6.5}
