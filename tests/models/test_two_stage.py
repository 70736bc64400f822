"""Two stages as one model: the retriever's shortlist in the ranker's order, all others beneath it in the retriever's.

Legend: B rows, C candidates, L history events, M hidden items, V items.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import toy
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import Recommender
from seqrec_cli.models.reading import optional_inputs
from seqrec_cli.models.two_stage import Stage, TwoStage

ITEMS = 8
NONE = torch.zeros(0, dtype=torch.int64)


class Told(Recommender):
    """Scores as they are given, whatever the row holds; it keeps what it was asked."""

    def __init__(self, scores_BV: Any) -> None:
        super().__init__(Catalog(3, ITEMS))
        self.scores_BV = torch.tensor(scores_BV)
        self.rows: list[Batch] = []
        self.candidates: list[Tensor] = []

    def score(self, batch: Batch, items_BC: Tensor) -> Tensor:
        self.rows.append(batch)
        self.candidates.append(items_BC)
        return self.scores_BV.gather(1, items_BC)

    def score_corpus(self, batch: Batch) -> Tensor:
        self.rows.append(batch)
        return self.scores_BV


def row(*items: int, width: int = 4) -> Batch:
    items_BL = torch.tensor([[*items, *[0] * (width - len(items))]])
    return Batch(torch.ones(1, dtype=torch.int64), items_BL, torch.tensor([len(items)]))


def two(first: Any, second: Any, retrieved: int) -> TwoStage:
    return TwoStage(Stage(Told(first), 4), Stage(Told(second), 4), retrieved=retrieved)


# Item 0 is padding, which never is retrieved.
FIRST = [[99.0, 0.5, 0.9, 0.1, 0.7, 0.3, 0.3, -2.0, 0.6]]
SECOND = [[99.0, -1.0, -3.0, 9.0, 2.0, 9.0, 9.0, 9.0, 0.0]]


def best_first(scores_BV: Tensor) -> list[int]:
    return (1 + scores_BV[0, 1:].argsort(descending=True, stable=True)).tolist()


def test_the_shortlist_has_the_ranker_s_scores_and_the_others_stand_beneath_as_retrieved() -> None:
    scores_BV = two(FIRST, SECOND, 4).score_corpus(row(1, 2))
    # Retrieved are 2, 4, 8 and 1, by the ranker in the order 4, 8, 1, 2; then 5 and 6, which are equal, 3 and 7.
    assert best_first(scores_BV) == [4, 8, 1, 2, 5, 6, 3, 7]
    assert scores_BV[0, [4, 8, 1, 2]].tolist() == [2.0, 0.0, -1.0, -3.0]
    assert scores_BV[0, 5] == scores_BV[0, 6]
    assert scores_BV[0, 5] < -3.0
    assert scores_BV.dtype == torch.float32
    assert scores_BV.isfinite().all()


def test_one_retrieved_item_leaves_the_retriever_s_order_whatever_the_ranker_says() -> None:
    assert best_first(two(FIRST, SECOND, 1).score_corpus(row(1))) == [2, 4, 8, 1, 5, 6, 3, 7]


def test_of_equal_items_at_the_cut_the_catalog_s_first_are_taken() -> None:
    model = two(FIRST, SECOND, 5)
    model.score_corpus(row(1))
    assert model.ranker.candidates[0].tolist() == [[1, 2, 4, 5, 8]]  # 5, and not 6


def test_what_is_no_answer_takes_no_place_of_the_shortlist() -> None:
    model = two(FIRST * 2, SECOND * 2, 3)
    hidden_M = torch.tensor([2, 4, (ITEMS + 1) + 8])  # items 2 and 4 of the first row, 8 of the second
    batch = Batch(torch.ones(2, dtype=torch.int64), torch.ones(2, 4, dtype=torch.int64), torch.tensor([4, 4]))
    model.score_corpus_without(batch, hidden_M)
    assert model.ranker.candidates[0].tolist() == [[1, 5, 8], [1, 2, 4]]


def test_where_fewer_are_left_than_retrieved_all_of_them_are_ranked() -> None:
    model = two(FIRST, SECOND, 4)
    scores_BV = model.score_corpus_without(row(1), torch.tensor([1, 2, 3, 4, 7, 8]))
    assert {5, 6} < set(model.ranker.candidates[0][0].tolist())
    assert scores_BV[0, [5, 6]].tolist() == [9.0, 9.0]


def test_the_best_are_the_same_where_the_order_of_the_others_is_not_asked_for() -> None:
    model = two(FIRST, SECOND, 4)
    whole_BV, best_BV = (model.score_corpus_without(row(1), NONE, top) for top in (None, 4))
    assert best_first(whole_BV)[:4] == best_first(best_BV)[:4]
    assert (best_BV[0, [3, 5, 6, 7]] < -3.0).all()
    assert torch.equal(model.score_corpus_without(row(1), NONE, 5), whole_BV)  # the fifth is one of the others


@pytest.mark.parametrize("last", [-1e9, -3.0e4, 0.0, 7.25, 1e12])
def test_the_others_keep_their_order_beneath_any_score(last: float) -> None:
    draw = torch.Generator().manual_seed(0)
    first_BV = torch.randn(1, ITEMS + 1, generator=draw)
    scores_BV = two(first_BV.tolist(), [[last] * (ITEMS + 1)], 1).score_corpus(row(1))
    assert best_first(scores_BV) == best_first(first_BV)
    assert len(scores_BV[0, 1:].unique()) == ITEMS
    assert scores_BV.isfinite().all()


@pytest.mark.parametrize("retrieved", [ITEMS, ITEMS + 5])
def test_a_shortlist_as_long_as_the_corpus_is_the_ranker_alone(retrieved: int) -> None:
    model = two(FIRST, SECOND, retrieved)
    assert torch.equal(model.score_corpus(row(1)), torch.tensor(SECOND))
    assert model.shortlist is None
    assert model.retriever.rows == []


def test_click_models_and_encoders_as_stages_are_what_they_are_alone() -> None:
    """Any encoder and any ranker, with all columns of real models; equal to the last bit over the whole corpus."""
    batch = toy.toy_batch()
    for first, second in (("sasrec", "din"), ("gru4rec", "bst"), ("markov", "dien"), ("din", "sasrec")):
        retriever, ranker = toy.toy_model(first).eval(), toy.toy_model(second, seed=1).eval()
        stages = Stage(retriever, 12), Stage(ranker, 12)
        with torch.inference_mode():
            whole_BV, alone_BV = TwoStage(*stages, retrieved=toy.ITEMS).score_corpus(batch), ranker.score_corpus(batch)
            assert torch.equal(whole_BV, alone_BV.float())
            cut_BV, first_BV = TwoStage(*stages, retrieved=6).score_corpus(batch), retriever.score_corpus(batch)
        for each in range(len(batch)):
            order = 1 + first_BV[each, 1:].argsort(descending=True, stable=True)
            short, rest = order[:6], order[6:]
            by_ranker = short[alone_BV[each, short].argsort(descending=True)]
            found = 1 + cut_BV[each, 1:].argsort(descending=True, stable=True)
            assert found[:6].tolist() == by_ranker.tolist(), (first, second)
            if len(first_BV[each].unique()) == toy.ITEMS + 1:
                assert found[6:].tolist() == rest.tolist()
            torch.testing.assert_close(cut_BV[each, short], alone_BV[each, short].float())


def test_candidates_have_the_ranker_s_scores() -> None:
    model, items_BC = two(FIRST, SECOND, 2), torch.tensor([[3, 7, 2]])
    assert model.score(row(1), items_BC).tolist() == [[9.0, 9.0, -3.0]]
    assert model.retriever.rows == []


def test_each_stage_reads_its_own_events_with_their_times_and_context() -> None:
    """The row has five events; the retriever was trained on three and the ranker on four."""
    first, second = Told(FIRST), Told(SECOND)
    times_BL, context_BLF = torch.arange(10, 15)[None], torch.arange(10).reshape(1, 5, 2)
    batch = replace(
        row(1, 2, 3, 4, 5, width=5),
        times_BL=times_BL,
        context_BLF=context_BLF,
        context_BF=torch.tensor([[50, 51]]),
        request_times_B=torch.tensor([77]),
    )
    TwoStage(Stage(first, 3), Stage(second, 4), retrieved=3).score_corpus(batch)
    (retriever,), (ranker,) = first.rows, second.rows
    assert retriever.items_BL.tolist() == [[3, 4, 5]]
    assert retriever.times_BL.tolist() == [[12, 13, 14]]
    assert retriever.context_BLF.tolist() == [[[4, 5], [6, 7], [8, 9]]]
    assert ranker.items_BL.tolist() == [[2, 3, 4, 5]]
    assert ranker.context_BF.tolist() == retriever.context_BF.tolist() == [[50, 51]]
    assert ranker.request_times_B.tolist() == retriever.request_times_B.tolist() == [77]


def test_what_of_a_request_is_read_is_what_either_stage_reads() -> None:
    class Timed(Told):
        def score(self, batch: Batch, items_BC: Tensor) -> Tensor:
            assert batch.times_BL is not None
            return super().score(batch, items_BC)

    class Placed(Told):
        def score_corpus(self, batch: Batch) -> Tensor:
            assert batch.context_BF is not None
            return super().score_corpus(batch)

    batch = replace(row(1, 2), times_BL=torch.zeros(1, 4, dtype=torch.int64), context_BF=torch.ones(1, 1).long())
    batch = replace(batch, context_BLF=torch.ones(1, 4, 1).long(), request_times_B=torch.ones(1).long())
    for retriever, read in ((Told(FIRST), ["times_BL"]), (Placed(FIRST), ["times_BL", "context_BF"])):
        stages = Stage(retriever, 2), Stage(Timed(SECOND), 3)
        assert optional_inputs(TwoStage(*stages, retrieved=3).score_corpus, batch) == read


def test_a_retriever_may_have_two_stages_itself() -> None:
    third = [[0.0, 5.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 4.0]]
    inner = two(FIRST, SECOND, 4)  # 4, 8, 1, 2, 5, 6, 3, 7
    model = TwoStage(Stage(inner, 4), Stage(Told(third), 4), retrieved=3)
    assert best_first(model.score_corpus(row(1))) == [1, 8, 4, 2, 5, 6, 3, 7]
    model.score_corpus_without(row(1), torch.tensor([4]))
    assert inner.ranker.candidates[-1].tolist() == [[1, 2, 5, 8]]  # told of what is no answer


def test_a_retriever_that_diverged_is_refused_and_a_ranker_that_did_gives_no_order() -> None:
    with pytest.raises(SeqrecError, match="retriever's scores are not numbers"):
        two([[0.0, np.nan, *FIRST[0][2:]]], SECOND, 3).score_corpus(row(1))
    assert two(FIRST, [[np.nan] * (ITEMS + 1)], 3).score_corpus(row(1)).isnan().any()
