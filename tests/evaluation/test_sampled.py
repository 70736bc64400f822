"""Targets among sampled items: which are drawn, the ranks among them, and what one checkpoint gives by each kind."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from toylog import packed

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import held_out, training_counts, view_of
from seqrec_cli.data.view import Targets
from seqrec_cli.evaluation.candidates import among, corrected, kendall_tau, orders
from seqrec_cli.evaluation.drawn import Drawing, Sampling
from seqrec_cli.evaluation.evaluate import evaluate
from seqrec_cli.evaluation.ranks import rank_held_out
from seqrec_cli.evaluation.sampled import SampledRanks, rank_sampled
from seqrec_cli.models.contract import Recommender
from seqrec_cli.training.precision import Precision

CPU = Precision(torch.device("cpu"), "fp32")
CFG = EvaluationConfig(
    cutoffs=(5, 10),
    batch_size=7,
    memory_mb=64,
    ranked_users=None,
    test="once",
    beyond_accuracy=False,
    baselines=False,
)


class Scores(Recommender):
    """A fixed number a user and item, with ties."""

    def __init__(self, catalog: Catalog, levels: int = 30) -> None:
        super().__init__(catalog)
        rng = np.random.default_rng(4)
        self.scores_UV = torch.from_numpy(rng.integers(0, levels, (catalog.num_users, catalog.num_items + 1)) / 7.0)

    def score_corpus(self, batch: Batch) -> torch.Tensor:
        return self.scores_UV[batch.users_B - 1].float()

    def score(self, batch: Batch, items_BC: torch.Tensor) -> torch.Tensor:
        return self.score_corpus(batch).gather(1, items_BC)


def log_with(seen: str = "remove", candidates: str = "full", users: int = 40, items: int = 50) -> PackedLog:
    """Users of 4 to 20 distinct events; popularity falls with the item's number."""
    rng = np.random.default_rng(3)
    chances = 1 / np.arange(1, items + 1)
    histories = [
        (rng.choice(items, int(rng.integers(4, 21)), replace=False, p=chances / chances.sum()) + 1).tolist()
        for _ in range(users)
    ]
    log = packed(histories, items, click_negatives=4)
    manifest = {"settings": {"seed": 0, "candidates": candidates}, "fingerprint": "x"}
    return replace(log, view=replace(view_of(log), seen=seen, candidates=candidates, manifest=manifest))  # type: ignore[arg-type]


def several_targets(log: PackedLog, most: int = 3) -> PackedLog:
    """Each test request asks for its user's last 1 to `most` events."""
    targets = held_out(log, "test")
    counts_R = 1 + np.arange(len(targets.rows_R)) % most
    ends_R = targets.ends_R + 1 - counts_R
    positions_T = np.concatenate([np.arange(end, end + count) for end, count in zip(ends_R, counts_R, strict=True)])
    offsets_R1 = np.concatenate([[0], np.cumsum(counts_R)])
    return replace(log, view=replace(view_of(log), test=Targets(targets.rows_R, ends_R, positions_T, offsets_R1)))


def ranked(log: PackedLog, model: Recommender, sampling: Sampling, seed: int = 0) -> SampledRanks:
    with torch.inference_mode():
        return rank_sampled(
            model, log, "test", sampling=sampling, cfg=CFG, max_length=8, device=torch.device("cpu"), seed=seed
        )


def test_kinds_are_read_from_the_protocol() -> None:
    assert Sampling.of("full") is None
    assert Sampling.of("uniform:100") == Sampling("uniform", 100)
    assert Sampling.of("popularity:7") == Sampling("popularity", 7)


@pytest.mark.parametrize("kind", ["uniform", "popularity"])
@pytest.mark.parametrize("seen", ["remove", "keep"])
def test_drawn_items_are_no_targets_no_seen_ones_and_none_twice(seen: str, kind: str) -> None:
    log = several_targets(log_with(seen))
    targets = log.view.test  # type: ignore[union-attr]
    items_RK, whole_R = Drawing(log, Sampling(kind, 12), seed=0).of(targets)  # type: ignore[arg-type]
    assert items_RK.shape == (len(targets.rows_R), 12)
    met_again = 0
    for request, (row, end) in enumerate(zip(targets.rows_R, targets.ends_R, strict=True)):
        items = items_RK[request].tolist()
        wanted = set(log.items_N[targets.positions_T[targets.offsets_R1[request] : targets.offsets_R1[request + 1]]])
        history = set(log.items_N[log.offsets_U1[row] : end].tolist())
        assert len(set(items)) == 12
        assert min(items) > 0
        assert not wanted & set(items)
        met_again += len(history & set(items))
        assert whole_R[request] == (50 if seen == "keep" else 50 - len(history - wanted))
    assert (met_again > 0) is (seen == "keep")


def test_draws_depend_on_seed_and_request_alone() -> None:
    log = log_with()
    targets = held_out(log, "test")
    drawing = Drawing(log, Sampling("uniform", 10), seed=5)
    whole, _ = drawing.of(targets)
    some = np.array([2, 11, 30])
    np.testing.assert_array_equal(drawing.of(targets.at(some))[0], whole[some])
    assert (Drawing(log, Sampling("uniform", 10), seed=6).of(targets)[0] != whole).any(axis=1).mean() > 0.9
    other, _ = drawing.of(held_out(log, "val"))
    assert (other != whole).any(axis=1).mean() > 0.9


def frequencies(log: PackedLog, kind: str, count: int, draws: int) -> np.ndarray:
    """How often each item is among the drawn, over many requests of one user without a history."""
    rows_R = np.zeros(draws, np.int64)
    targets = Targets(rows_R, np.zeros(draws, np.int64), np.zeros(draws, np.int64), np.arange(draws + 1))
    drawn = [
        Drawing(log, Sampling(kind, count), seed=seed).of(targets.at(np.array([0])))[0]  # type: ignore[arg-type]
        for seed in range(draws)
    ]
    return np.bincount(np.concatenate(drawn).ravel(), minlength=log.num_items + 1)[1:] / draws


def test_uniform_draws_are_uniform_and_popular_ones_follow_training_events() -> None:
    log = packed([[1, 2, 3, 2, 4], [5, 2, 3, 4, 1], [5, 6, 2, 3, 1]], 8)  # the first user's target 1 is never drawn
    uniform = frequencies(log, "uniform", 3, 1500)
    assert uniform[0] == 0
    np.testing.assert_allclose(uniform[1:], 3 / 7, atol=0.05)
    counts = training_counts(log)[1:]
    assert counts.tolist() == [1, 3, 2, 0, 2, 1, 0, 0]  # before each user's last two events
    popular = frequencies(log, "popularity", 2, 1500)
    assert popular[[0, 3, 6, 7]].tolist() == [0, 0, 0, 0]
    weights = {2: 3.0, 3: 2.0, 5: 2.0, 6: 1.0}
    chances = Counter[int]()
    for first, a in weights.items():
        for second, b in weights.items():
            if second != first:  # one after another, without replacement
                chance = a / 8 * b / (8 - a)
                chances[first] += chance  # type: ignore[assignment]
                chances[second] += chance  # type: ignore[assignment]
    for item, chance in chances.items():
        assert popular[item - 1] == pytest.approx(chance, abs=0.05)


def test_a_catalogue_with_fewer_items_gives_all_it_has() -> None:
    log = log_with()
    items_RK, whole_R = Drawing(log, Sampling("uniform", 60), seed=0).of(held_out(log, "test"))
    assert ((items_RK > 0).sum(axis=1) == whole_R - 1).all()
    assert all(len(set(row[row > 0])) == (row > 0).sum() for row in items_RK)
    nearly, _ = Drawing(log, Sampling("uniform", 28), seed=0).of(held_out(log, "test"))
    assert (nearly > 0).all()  # nearly all that is left: from the exact complement


@pytest.mark.parametrize("seen", ["remove", "keep"])
def test_a_sample_of_everything_gives_the_ranks_of_the_corpus(seen: str) -> None:
    log = several_targets(log_with(seen))
    model = Scores(log.catalog)
    found = ranked(log, model, Sampling("uniform", 60)).ranks
    with torch.inference_mode():
        whole, _ = rank_held_out(model, log, "test", cfg=CFG, max_length=8, device=torch.device("cpu"))
    for name in vars(whole):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name), err_msg=name)


def test_ranks_are_counted_among_targets_and_sampled_items() -> None:
    log = several_targets(log_with())
    model, targets = Scores(log.catalog), log.view.test  # type: ignore[union-attr]
    found = ranked(log, model, Sampling("uniform", 9))
    items_RK, _ = Drawing(log, Sampling("uniform", 9), seed=0).of(targets)
    for target, (request, position) in enumerate(zip(targets.requests_T, targets.positions_T, strict=True)):
        scores_V = model.scores_UV[targets.rows_R[request]].numpy()
        mine = log.items_N[targets.positions_T[targets.offsets_R1[request] : targets.offsets_R1[request + 1]]]
        own, rivals = scores_V[log.items_N[position]], scores_V[[*items_RK[request], *mine]]
        assert found.ranks.ranks_T[target] == 1 + (rivals > own).sum() + ((rivals == own).sum() - 1) / 2
        drawn = scores_V[items_RK[request]]
        assert found.above_T[target] == (drawn > own).sum() + (drawn == own).sum() / 2
    assert (found.ranks.candidates_R == 9 + targets.counts_R).all()
    assert (found.sampled_R == 9).all()


def test_a_diverged_model_is_refused() -> None:
    log = log_with()
    model = Scores(log.catalog)
    model.scores_UV[:] = float("nan")
    with pytest.raises(SeqrecError, match="NaN or infinite"):
        ranked(log, model, Sampling("uniform", 9))


def test_a_protocol_of_sampled_candidates_is_what_evaluation_measures() -> None:
    log = log_with(candidates="uniform:9")
    model = Scores(log.catalog)
    found = evaluate(model, log, "test", cfg=CFG, max_length=8, precision=CPU)
    expected = ranked(log, model, Sampling("uniform", 9)).ranks
    np.testing.assert_array_equal(found.ranks.ranks_T, expected.ranks_T)
    assert found.metrics["hr@5"] == (expected.ranks_T <= 5).mean()
    whole = evaluate(model, log_with(), "test", cfg=CFG, max_length=8, precision=CPU)
    assert found.metrics["hr@5"] > 2 * whole.metrics["hr@5"]
    assert found.metrics["auc"] == pytest.approx(whole.metrics["auc"])  # the click candidates are the same


def test_the_protocols_seed_draws() -> None:
    log, kinds = log_with(candidates="uniform:9"), ("uniform:9",)
    manifest = view_of(log).manifest
    seeded = manifest | {"settings": manifest["settings"] | {"seed": 5}}
    log = replace(log, view=replace(view_of(log), manifest=seeded))
    model = Scores(log.catalog)
    expected = ranked(log, model, Sampling("uniform", 9), seed=5).ranks
    assert (expected.ranks_T != ranked(log, model, Sampling("uniform", 9)).ranks.ranks_T).any()
    found = evaluate(model, log, "test", cfg=CFG, max_length=8, precision=CPU)
    np.testing.assert_array_equal(found.ranks.ranks_T, expected.ranks_T)
    beside = among(model, log, "test", kinds=kinds, first=found.ranks, cfg=CFG, max_length=8, precision=CPU)
    assert beside["uniform:9"]["metrics"]["mrr"] == found.metrics["mrr"]


def test_so_many_requests_are_ranked_as_are_asked_for() -> None:
    log, model = log_with(candidates="uniform:9"), Scores(log_with().catalog)
    cfg = CFG.model_copy(update={"ranked_users": 12})
    found = evaluate(model, log, "test", cfg=cfg, max_length=8, precision=CPU).ranks
    every = ranked(log, model, Sampling("uniform", 9)).ranks
    assert len(found.rows_R) == 12
    np.testing.assert_array_equal(found.ranks_T, every.ranks_T[np.isin(every.rows_R, found.rows_R)])


def test_one_checkpoint_by_each_kind_of_candidates() -> None:
    log = log_with(users=300, items=200)
    model = Scores(log.catalog, levels=10_000)
    whole = evaluate(model, log, "test", cfg=CFG, max_length=8, precision=CPU)
    kinds = ("full", "uniform:40", "popularity:40")
    found = among(model, log, "test", kinds=kinds, first=whole.ranks, cfg=CFG, max_length=8, precision=CPU)
    assert list(found) == list(kinds)
    assert found["full"]["metrics"] == {name: whole.metrics[name] for name in found["full"]["metrics"]}
    assert not found["full"]["corrected"]
    assert not found["popularity:40"]["corrected"]  # the estimators are for uniform samples
    uniform = found["uniform:40"]
    assert list(uniform["corrected"]) == ["rank estimate", "CLS", "BV .1", "BV .01"]
    truth = whole.metrics["ndcg@10"]
    assert uniform["metrics"]["ndcg@10"] > 3 * truth
    for label, values in uniform["corrected"].items():
        assert abs(values["ndcg@10"] - truth) < 0.5 * abs(uniform["metrics"]["ndcg@10"] - truth), label


def test_of_several_targets_the_rank_alone_is_estimated() -> None:
    log = several_targets(log_with(users=300, items=200))
    model = Scores(log.catalog, levels=10_000)
    found = corrected(ranked(log, model, Sampling("uniform", 40)), ["corpus_auc"])
    assert list(found) == ["rank estimate"]
    whole = evaluate(model, log, "test", cfg=CFG, max_length=8, precision=CPU)
    assert found["rank estimate"]["corpus_auc"] == pytest.approx(whole.metrics["corpus_auc"], abs=0.01)


def test_models_that_change_places() -> None:
    full = {"a": 0.3, "b": 0.2, "c": 0.1}
    found = orders({"full": full, "sampled": {"a": 0.7, "b": 0.8, "c": 0.6}, "tied": {"a": 0.5, "b": 0.5, "c": 0.1}})
    assert found["full"].models == ["a", "b", "c"]
    assert (found["full"].changed, found["full"].tau) == ([], 1.0)
    assert found["sampled"].models == ["b", "a", "c"]
    assert (found["sampled"].changed, found["sampled"].tau) == ([("b", "a")], pytest.approx(1 / 3))
    assert found["tied"].changed == []
    assert found["tied"].tau == pytest.approx(2 / np.sqrt(6))
    assert kendall_tau([1, 2, 3, 4], [4, 3, 2, 1]) == -1
