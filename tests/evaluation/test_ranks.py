"""Ranks by counting, against a loop over users and items that shares no code with them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.view import Targets
from seqrec_cli.evaluation import ranks as ranks_module
from seqrec_cli.evaluation.ranks import count_ranks, rank_held_out, seen_positions
from seqrec_cli.metrics.table import request_metric
from seqrec_cli.models.contract import Recommender, SequenceEncoder

CPU = torch.device("cpu")


class Table(Recommender):
    """Scores written down: a row a user."""

    def __init__(self, scores_UV: np.ndarray) -> None:
        super().__init__(Catalog(len(scores_UV), scores_UV.shape[1] - 1))
        self.register_buffer("scores_UV", torch.from_numpy(scores_UV))
        self.largest = 0

    def score_corpus(self, batch: Batch) -> torch.Tensor:
        self.largest = max(self.largest, len(batch))
        return self.scores_UV[batch.users_B - 1].T.contiguous().T  # column by column in memory

    def score(self, batch: Batch, items_BC: torch.Tensor) -> torch.Tensor:
        return self.scores_UV[batch.users_B - 1].gather(1, items_BC)


class Constant(Recommender):
    """One row of zeros, seen by every user as a view."""

    def __init__(self, num_items: int) -> None:
        super().__init__(Catalog(1, num_items))
        self.register_buffer("row_V", torch.zeros(num_items + 1))

    def score_corpus(self, batch: Batch) -> torch.Tensor:
        return self.row_V.expand(len(batch), -1)


class Last(SequenceEncoder):
    """Whole-number vectors, so that sums are exact whatever the block."""

    def __init__(self, num_items: int) -> None:
        super().__init__(Catalog(1, num_items))
        generator = torch.Generator().manual_seed(0)
        self.table_VD = torch.nn.Parameter(torch.randint(-3, 4, (num_items + 1, 4), generator=generator).float())
        self.encoded: list[int] = []

    def encode(self, batch: Batch) -> torch.Tensor:
        self.encoded.append(len(batch))
        return self.table_VD[batch.items_BL]

    def item_table(self) -> torch.Tensor:
        return self.table_VD


def brute_force(log: PackedLog, split: str, scores_UV: np.ndarray) -> list[tuple[int, float, int]]:
    found = []
    for user in range(log.num_users):
        history = log.items_N[log.offsets_U1[user] : log.offsets_U1[user + 1]].tolist()
        if len(history) < 3:
            continue
        place = len(history) - (1 if split == "test" else 2)
        target, seen = history[place], set(history[:place])
        others = [i for i in range(1, log.num_items + 1) if i != target and i not in seen]
        own = scores_UV[user][target]
        higher = sum(scores_UV[user][i] > own for i in others)
        equal = sum(scores_UV[user][i] == own for i in others)
        found.append((user, 1 + higher + equal / 2, len(others) + 1))
    return found


def config(memory_mb: int = 64, batch_size: int = 5) -> EvaluationConfig:
    return EvaluationConfig(
        cutoffs=(1, 5),
        batch_size=batch_size,
        memory_mb=memory_mb,
        ranked_users=None,
        test="once",
        beyond_accuracy=False,
        baselines=False,
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_ranks_agree_with_a_plain_loop_on_scores_full_of_ties(log_of, data):
    num_items = data.draw(st.integers(1, 12))
    item = st.integers(1, num_items)
    histories = data.draw(st.lists(st.lists(item, min_size=1, max_size=9), min_size=1, max_size=8))
    histories.append([1, 1, num_items])
    log = log_of(histories, num_items)
    few = st.sampled_from([-np.inf, -2.0, 0.0, 0.5, 3.0])
    scores_UV = data.draw(hnp.arrays(np.float32, (len(histories), num_items + 1), elements=few))
    split = data.draw(st.sampled_from(["val", "test"]))
    ranks, _ = rank_held_out(Table(scores_UV), log, split, cfg=config(), max_length=3, device=CPU)
    expected = brute_force(log, split, scores_UV)
    assert list(zip(ranks.rows_R, ranks.ranks_T, ranks.candidates_R, strict=True)) == expected
    metrics = {name: request_metric(name, ranks).mean() for name in ("hr@2", "ndcg@2", "mrr@2", "mrr", "corpus_auc")}
    assert metrics["hr@2"] == pytest.approx(np.mean([rank <= 2 for _, rank, _ in expected]), abs=1e-6)
    assert metrics["mrr"] == pytest.approx(np.mean([1 / rank for _, rank, _ in expected]), abs=1e-6)


def test_hand_computed_rank(log_of):
    log = log_of([[1, 2, 3, 4]], 6)
    scores = torch.tensor([[9.0, 9.0, 1.0, 9.0, 5.0, 5.0, 6.0]])  # target 4; 1, 2, 3 were seen; 6 higher, 5 equal
    seen = torch.from_numpy(seen_positions(log, np.array([0]), np.array([3])))
    ranks, counts = count_ranks(scores, torch.tensor([[4]]), seen)
    assert (ranks.item(), counts.item()) == (2.5, 3)


def test_a_target_met_before_is_still_ranked(log_of):
    log = log_of([[2, 1, 2]], 3)
    scores_UV = np.array([[0, 9, 1, 5]], np.float32)  # item 1 was seen, so only item 3 stands above the target 2
    ranks, _ = rank_held_out(Table(scores_UV), log, "test", cfg=config(), max_length=1, device=CPU)
    assert (ranks.items_T[0], ranks.ranks_T[0], ranks.candidates_R[0]) == (2, 2.0, 2)


def test_the_whole_history_is_seen_not_the_window(log_of):
    log = log_of([[1, 2, 3, 4, 5]], 5)
    scores_UV = np.array([[0, 5, 5, 5, 5, 1]], np.float32)
    ranks, _ = rank_held_out(Table(scores_UV), log, "test", cfg=config(), max_length=1, device=CPU)
    assert (ranks.ranks_T[0], ranks.candidates_R[0], ranks.histories_R[0]) == (1.0, 1, 4)


def test_a_constant_scorer_lands_mid_corpus(random_log):
    model = Constant(random_log.num_items)
    ranks, _ = rank_held_out(model, random_log, "test", cfg=config(), max_length=10, device=CPU)
    np.testing.assert_array_equal(ranks.ranks_T, (ranks.candidates_R + 1) / 2)
    assert request_metric("corpus_auc", ranks).mean() == pytest.approx(0.5)
    assert (model.row_V == 0).all()  # the model's own buffer was not overwritten


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_raise(random_log, bad):
    scores_UV = np.zeros((random_log.num_users, random_log.num_items + 1), np.float32)
    scores_UV[-1, 7] = bad
    with pytest.raises(SeqrecError, match="NaN or infinite"):
        rank_held_out(Table(scores_UV), random_log, "test", cfg=config(), max_length=10, device=CPU)


def test_padding_is_never_ranked_whatever_its_score(random_log):
    scores_UV = np.random.default_rng(0).random((random_log.num_users, random_log.num_items + 1)).astype(np.float32)
    plain, _ = rank_held_out(Table(scores_UV), random_log, "test", cfg=config(), max_length=10, device=CPU)
    scores_UV[:, 0] = np.nan
    padded, _ = rank_held_out(Table(scores_UV), random_log, "test", cfg=config(), max_length=10, device=CPU)
    np.testing.assert_array_equal(plain.ranks_T, padded.ranks_T)


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_ranks_do_not_depend_on_batches_or_on_order(random_log, batch_size):
    model = Last(random_log.num_items)
    with torch.inference_mode():
        first, _ = rank_held_out(model, random_log, "test", cfg=config(), max_length=10, device=CPU)
        again, _ = rank_held_out(
            model, random_log, "test", cfg=config(batch_size=batch_size), max_length=10, device=CPU
        )
    np.testing.assert_array_equal(first.ranks_T, again.ranks_T)
    assert (np.diff(first.rows_R) > 0).all()


@pytest.mark.parametrize("kind", ["encoder", "table"])
def test_memory_budgets_change_blocks_but_not_ranks(random_log, monkeypatch, kind):
    scores_UV = np.random.default_rng(1).integers(0, 9, (random_log.num_users, random_log.num_items + 1))
    model = Last(random_log.num_items) if kind == "encoder" else Table(scores_UV.astype(np.float32))
    with torch.inference_mode():
        whole, _ = rank_held_out(model, random_log, "test", cfg=config(batch_size=50), max_length=10, device=CPU)
        monkeypatch.setattr(ranks_module, "COUNTED_AT_ONCE", 6)  # and three columns counted at once
        # As a corpus of half a megabyte a user would: two users a block.
        monkeypatch.setattr(ranks_module, "BYTES_A_SCORE", 2**19 // (random_log.num_items + 1))
        blocks: list[int] = []
        count = ranks_module.count_ranks
        monkeypatch.setattr(ranks_module, "count_ranks", lambda s, *rest: (blocks.append(len(s)), count(s, *rest))[1])
        small, _ = rank_held_out(
            model, random_log, "test", cfg=config(memory_mb=1, batch_size=50), max_length=10, device=CPU
        )
    assert max(blocks) == 2
    np.testing.assert_array_equal(whole.ranks_T, small.ranks_T)
    np.testing.assert_array_equal(whole.candidates_R, small.candidates_R)
    if kind == "encoder":  # each batch is encoded once, however many blocks its scores make
        half = len(model.encoded) // 2
        assert model.encoded[:half] == model.encoded[half:]
        assert max(model.encoded) > 2


def test_nobody_to_evaluate_is_an_error(log_of, random_log):
    alone = log_of([[1, 2], [2]], 2)
    with pytest.raises(SeqrecError, match="three events"):
        rank_held_out(Constant(2), replace(alone), "test", cfg=config(), max_length=10, device=CPU)


def test_blocks_are_fp32_products_and_leave_autocast_as_it_was(random_log):
    model = Last(random_log.num_items)
    batch = Batch(torch.tensor([1, 2]), torch.tensor([[3], [4]]), torch.tensor([1, 1]))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for scores_BV in ranks_module.CorpusScorer(model, 1).blocks(batch):
            assert scores_BV.dtype == torch.float32
            assert torch.is_autocast_enabled("cpu")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_several_targets_of_a_request_are_ranked_among_each_other(log_of, data):
    """By counting for each, and by one sort where there are many."""
    num_items = data.draw(st.integers(8, 14))
    histories = [list(range(1, num_items + 1)), [1, 1, 1, 2], list(range(num_items, 0, -1))]
    log = log_of(histories, num_items)
    counts = [data.draw(st.integers(1, num_items - 1)), 1, data.draw(st.integers(1, num_items - 1))]
    ends_R = np.array([log.offsets_U1[row + 1] - count for row, count in enumerate(counts)])
    positions_T = ragged_ranges(ends_R, np.array(counts))
    targets = Targets(np.arange(3), ends_R, positions_T, np.concatenate([[0], np.cumsum(counts)]))
    seen = data.draw(st.sampled_from(["remove", "keep"]))
    log = replace(log, view=replace(log.view, test=targets, seen=seen))
    few = st.sampled_from([-np.inf, -2.0, 0.0, 0.5, 3.0])
    scores_UV = data.draw(hnp.arrays(np.float32, (3, num_items + 1), elements=few))
    ranks, _ = rank_held_out(Table(scores_UV), log, "test", cfg=config(), max_length=3, device=CPU)
    expected, ranked = [], []
    for row, (history, count) in enumerate(zip(histories, counts, strict=True)):
        known, wanted = set(history[:-count]), history[-count:]
        others = [i for i in range(1, num_items + 1) if seen == "keep" or i not in known or i in wanted]
        ranked.append(len(others))
        for own in wanted:
            higher = sum(scores_UV[row][i] > scores_UV[row][own] for i in others if i != own)
            equal = sum(scores_UV[row][i] == scores_UV[row][own] for i in others if i != own)
            expected.append((row, own, 1 + higher + equal / 2))
    assert list(zip(ranks.requests_T, ranks.items_T, ranks.ranks_T, strict=True)) == expected
    assert ranks.candidates_R.tolist() == ranked
