"""Weights of a mixture: found where mixing helps, and not where it does not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from seqrec_cli.config.registry import config_class
from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import target_batches
from seqrec_cli.data.splits import held_out, view_of
from seqrec_cli.data.view import SPLITS
from seqrec_cli.evaluation.evaluate import evaluate, measuring, rank
from seqrec_cli.evaluation.portfolio import (
    FAR_BELOW,
    FEWEST,
    NOWHERE,
    Pools,
    _chosen,
    _climbed,
    _halves,
    find_mixture,
    pool_ndcg,
    read_pools,
)
from seqrec_cli.models.auto import Model
from seqrec_cli.models.build import build_model
from seqrec_cli.training.closed_form import training_histories
from seqrec_cli.training.precision import Precision
from tests.evaluation.conftest import make_log
from tests.shipped import shipped


def pools(*shares_RP: torch.Tensor) -> Pools:
    return Pools(tuple("abcd"[: len(shares_RP)]), torch.stack(shares_RP))


def noisy(signal: float, seed: int, requests: int = 400) -> torch.Tensor:
    shares_RP = torch.randn(requests, 60, generator=torch.Generator().manual_seed(seed))
    shares_RP[:, 0] += signal
    return shares_RP


def test_the_targets_rank_is_counted_with_ties_at_their_mean() -> None:
    mixed_RP = torch.tensor([[1.0, 0, 0], [0, 1, NOWHERE], [1, 1, 0]])
    expected = torch.tensor([1.0, 1 / torch.tensor(3.0).log2(), 1 / torch.tensor(2.5).log2()]).mean()
    assert pool_ndcg(mixed_RP) == pytest.approx(float(expected))


def test_models_that_err_apart_are_mixed() -> None:
    found = find_mixture(pools(noisy(1.5, 1), noisy(1.5, 2), noisy(-3.0, 3)))
    assert set(found.weights) == {"a", "b"}
    assert sum(found.weights.values()) == pytest.approx(1)
    assert found.ndcg > found.best_alone + 0.05


def test_the_best_alone_is_kept_where_the_others_know_nothing() -> None:
    found = find_mixture(pools(noisy(0.0, 1), noisy(2.5, 2), noisy(0.0, 3)))
    assert found.weights == {"b": 1.0}


def test_a_model_far_below_the_best_has_a_part_only_where_that_helps_others_than_it_was_found_on() -> None:
    strong_RP = noisy(2.5, 2)
    flattered = pools(strong_RP[:120], *(0.15 * noisy(0.0, seed, 120) for seed in (5, 6, 8)))
    alone_M = [pool_ndcg(shares_RP) for shares_RP in flattered.shares_MRP]
    assert max(alone_M[1:]) < FAR_BELOW * alone_M[0]
    climbed_M = _climbed(flattered, [1.0, 0, 0, 0], among=range(4))
    assert sum(climbed_M[1:]) > 1  # on the very requests noise seems to help
    assert not any(_chosen(flattered)[1:])

    specialist_RP = torch.zeros(400, 60)  # knows every fifth target, and nothing else
    specialist_RP[::5, 0] = 9.0
    helped = pools(strong_RP, specialist_RP)
    assert pool_ndcg(specialist_RP) < FAR_BELOW * pool_ndcg(strong_RP)
    assert all(_chosen(helped))


def test_a_mixture_is_judged_on_requests_that_it_was_not_found_on() -> None:
    """Others that are the best with noise on top: weights fit the noise of the requests they are found on."""
    best_RP = noisy(2.0, 4, 120)
    overfit = pools(best_RP, *(best_RP + 0.8 * noisy(0.0, seed, 120) for seed in (54, 94)))
    alone = pool_ndcg(best_RP)
    halves = _halves(overfit)
    assert sum(pool_ndcg(half.mixed(_chosen(half))) for half in halves) / 2 > alone + 0.01
    found = find_mixture(overfit)
    assert (found.weights, found.ndcg) == ({"a": 1.0}, found.best_alone)
    assert found.best_alone == pytest.approx(alone)


def test_few_requests_choose_the_best_alone() -> None:
    assert find_mixture(pools(noisy(1.5, 1, 20), noisy(2.5, 2, 20))).weights == {"b": 1.0}


@pytest.fixture(scope="module")
def counted() -> tuple[PackedLog, Model]:
    """80 users of distinct items, and two models that count them, the first by a user's latest two events alone."""
    rng = np.random.default_rng(3)
    log = make_log([(rng.permutation(40)[:n] + 1).tolist() for n in rng.integers(5, 12, 80)], 40)
    members = {name: shipped("model", name) for name in ("itemknn", "graph")}
    members["itemknn"]["max_length"] = 2
    plain = shipped("model", "auto") | {"members": members, "weights": dict.fromkeys(members, 0.5)}
    model = build_model(config_class("model", "auto").from_plain(plain), log.catalog, 0)  # type: ignore[arg-type]
    assert isinstance(model, Model)
    model.fit_closed_form(training_histories(log))
    return log, model


def test_pools_are_of_validation_and_rank_as_it_does(
    counted: tuple[PackedLog, Model], cfg: EvaluationConfig, cpu: Precision
) -> None:
    """Each member by as much of the history as it reads, without items seen before."""
    log, model = counted
    pools = read_pools(model, log, requests=1000, max_length=200, precision=cpu)
    assert (pools.keys, pools.shares_MRP.shape[1]) == (("itemknn", "graph"), 80)
    for nth, (key, length) in enumerate((("itemknn", 2), ("graph", 200))):
        alone = {
            split: evaluate(model.members[key], log, split, cfg=cfg, max_length=length, precision=cpu).metrics  # type: ignore[arg-type]
            for split in SPLITS
        }
        assert pool_ndcg(pools.shares_MRP[nth]) == pytest.approx(alone["val"]["ndcg@10"], abs=1e-6)
        assert alone["val"]["ndcg@10"] != pytest.approx(alone["test"]["ndcg@10"], abs=1e-3)
    mixed = evaluate(model, log, "val", cfg=cfg, max_length=200, precision=cpu).metrics["ndcg@10"]
    assert pool_ndcg(pools.mixed([0.5, 0.5])) == pytest.approx(mixed, abs=1e-6)


def test_candidates_score_as_they_do_in_the_corpus(counted: tuple[PackedLog, Model], cpu: Precision) -> None:
    log, model = counted
    _, batch = next(iter(target_batches(log, held_out(log, "val"), max_length=50, batch_size=16)))
    items_BC = torch.randint(1, 41, (len(batch), 7), generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.score(batch, items_BC), model.score_corpus(batch).gather(1, items_BC))


@pytest.mark.parametrize("candidates", ["full", "uniform:9"])
def test_ranks_alone_are_those_of_the_whole_evaluation(
    counted: tuple[PackedLog, Model], cfg: EvaluationConfig, cpu: Precision, candidates: str
) -> None:
    log, model = counted
    manifest = {"settings": {"seed": 0, "candidates": candidates}, "fingerprint": "x"}
    log = replace(log, view=replace(view_of(log), candidates=candidates, manifest=manifest))  # type: ignore[arg-type]
    with measuring(model, cpu):
        ranks = rank(model, log, "val", cfg=cfg, max_length=200, device=cpu.device)
    whole = evaluate(model, log, "val", cfg=cfg, max_length=200, precision=cpu).ranks
    assert np.array_equal(ranks.ranks_T, whole.ranks_T)


def test_no_more_requests_are_read_than_asked_for(counted: tuple[PackedLog, Model], cpu: Precision) -> None:
    log, model = counted
    for asked, read in ((60, 60), (2, FEWEST)):
        pools = read_pools(model, log, requests=asked, max_length=200, precision=cpu)
        assert pools.shares_MRP.shape[1] == read
