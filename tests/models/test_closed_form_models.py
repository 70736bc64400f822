"""Most popular and Markov, against counts made by hand."""

import pytest
import torch
import toy

from seqrec_cli.data.batch import Batch
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import ClosedFormModel

HISTORIES = [
    torch.tensor([1, 2, 3]),
    torch.tensor([1, 2]),
    torch.tensor([], dtype=torch.int64),
    torch.tensor([4, 2, 1, 3]),
]


def counted(name: str) -> ClosedFormModel:
    model = build_model(toy.small_config(name), toy.toy_catalog(), 0)
    assert isinstance(model, ClosedFormModel)
    model.fit_closed_form(iter(HISTORIES))
    return model


def after(*history: int) -> Batch:
    padded = torch.tensor([[*history, 0, 0]])
    return Batch(torch.tensor([1]), padded, torch.tensor([len(history)]))


def test_popular_scores_are_log_counts() -> None:
    scores_V = counted("popular").score_corpus(after(5))[0]
    expected = torch.tensor([0.0, 3.0, 3.0, 2.0, 1.0, 0.0]).log1p()
    torch.testing.assert_close(scores_V[:6], expected)


def test_markov_counts_transitions_within_users() -> None:
    scores_V = counted("markov").score_corpus(after(9, 1))[0]
    assert scores_V.floor().tolist()[:6] == [0, 0, 2, 1, 0, 0]  # 1 was followed by 2 twice and by 3 once
    assert counted("markov").score_corpus(after(3))[0].max() < 1  # 3 ends its users' histories


def test_markov_breaks_ties_by_popularity() -> None:
    scores_V = counted("markov").score_corpus(after(2))[0]
    assert scores_V[3].floor() == scores_V[1].floor() == 1  # 2 was followed by 3 once and by 1 once
    assert scores_V[1] > scores_V[3] > scores_V[2] > scores_V[4] > scores_V[5]


@pytest.mark.parametrize("history", [(), (40,)])
def test_markov_without_a_known_last_item_is_popularity(history: tuple[int, ...]) -> None:
    scores_V = counted("markov").score_corpus(after(*history))[0]
    assert scores_V[1] == scores_V[2] > scores_V[3] > scores_V[4] > scores_V[5] == scores_V[0] == 0


def test_markov_pads_do_not_count_as_a_last_item() -> None:
    model = counted("markov")
    assert torch.equal(model.score_corpus(after(4, 1)), model.score_corpus(after(1)))


def test_nothing_counted_scores_nothing() -> None:
    for name in ("popular", "markov"):
        model = build_model(toy.small_config(name), toy.toy_catalog(), 0)
        assert isinstance(model, ClosedFormModel)
        model.fit_closed_form(iter([]))
        assert not model.score_corpus(after(1)).any()
        assert not model.score(after(1), torch.tensor([[1, 2]])).any()
