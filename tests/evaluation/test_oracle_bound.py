"""The generating process of synthetic data as a known truth: what its score is worth, and that no model passes it."""

from pathlib import Path

import numpy as np
import pytest

from seqrec_cli.config.registry import config_class
from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.sources.synthetic import oracle_scores
from seqrec_cli.data.splits import held_out
from seqrec_cli.evaluation.baselines import Oracle
from seqrec_cli.evaluation.evaluate import Evaluation, evaluate
from seqrec_cli.evaluation.paired import Stored, compared
from seqrec_cli.evaluation.ranks import seen_positions
from seqrec_cli.evaluation.stored import StoredRanks
from seqrec_cli.metrics.kinds import TargetRanks
from seqrec_cli.metrics.table import request_metric
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.training.closed_form import fit_closed_form
from seqrec_cli.training.precision import Precision
from tests.shipped import shipped

RANKED, CLICKED = ("hr@10", "ndcg@10", "mrr"), ("auc", "gauc", "logloss")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PackedLog:
    few = {"users": 1200, "items": 150, "min_events": 5, "max_events": 12}
    data = tmp_path_factory.mktemp("oracle")
    dataset = config_class("dataset", "synthetic").from_plain(shipped("dataset", "synthetic") | few)
    asked = config_class("protocol", "leave_last").from_plain(shipped("protocol", "leave_last"))
    return with_view(prepare(dataset, Path(data), lambda line: None), asked, lambda line: None)


def expected(log: PackedLog) -> dict[str, float]:
    """What the process's own order of unseen items is worth, over the process's draws of each target."""
    targets = held_out(log, "test")
    rows_R, ends_R = targets.rows_R, targets.ends_R
    chances_RV = oracle_scores(log, rows_R, ends_R)
    chances_RV.reshape(-1)[seen_positions(log, rows_R, ends_R)] = 0
    sorted_RV = -np.sort(-chances_RV / chances_RV.sum(axis=1, keepdims=True), axis=1)
    ranks_V = np.arange(1.0, sorted_RV.shape[1] + 1)
    at_V = TargetRanks.single(ranks_V, np.full(len(ranks_V), len(ranks_V)))
    worth = {name: request_metric(name, at_V) for name in RANKED}
    return {name: float((sorted_RV @ worth_V).mean()) for name, worth_V in worth.items()}


def measured(model: Recommender, log: PackedLog, *, cfg: EvaluationConfig, cpu: Precision) -> Evaluation:
    return evaluate(model, log, "test", cfg=cfg, max_length=10, precision=cpu)


def test_the_intervals_of_the_oracle_hold_its_known_value(
    log: PackedLog, cfg: EvaluationConfig, cpu: Precision
) -> None:
    oracle = measured(Oracle(log, "test"), log, cfg=cfg, cpu=cpu)
    for name, truth in expected(log).items():
        low, high = oracle.intervals[name]
        width = high - low
        assert low - width / 4 < truth < high + width / 4, name  # 2.9 standard errors


def test_no_model_passes_the_oracle(log: PackedLog, cfg: EvaluationConfig, cpu: Precision) -> None:
    truth = expected(log)
    first = measured(Oracle(log, "test"), log, cfg=cfg, cpu=cpu)
    runs = [Stored(StoredRanks.of(first.ranks), first.clicks)]
    for name in ("popular", "markov", "ease"):
        settings = shipped("model", name) | {"max_length": 10}
        model = build_model(config_class("model", name).from_plain(settings), log.catalog, seed=0)
        fit_closed_form(model, log)
        evaluation = measured(model, log, cfg=cfg, cpu=cpu)
        for metric, known in truth.items():
            assert evaluation.intervals[metric][0] < known, (name, metric)
        runs.append(Stored(StoredRanks.of(evaluation.ranks), evaluation.clicks))
    for metric, values in compared(runs, [*RANKED, *CLICKED], resamples=1000, seed=0).items():
        for run in values[1:]:
            low, high = run.difference_interval
            assert (high > 0) if metric == "logloss" else (low < 0), metric
