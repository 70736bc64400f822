"""Losses of objective.window=prefixes: of each row's last state alone, whichever objective."""

from typing import Any

import pytest
import torch
from test_objectives import Fixed
from test_sampled_objective import COUNTS_V, D, K, V, by_loop, objective

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.objectives.contract import build_objective
from seqrec_cli.objectives.samplers import build_sampler


class LastOnly(Fixed):
    """What computes the states of all positions is not to be called."""

    def last(self, batch: Batch) -> torch.Tensor:
        rows_B = torch.arange(len(batch))
        return self.table[batch.items_BL[rows_B, batch.lengths_B - 1]]

    def encode(self, batch: Batch) -> torch.Tensor:
        raise AssertionError("all positions")


def model() -> LastOnly:
    torch.manual_seed(1)
    return LastOnly(torch.randn(V + 1, D))


def batch(**more: Any) -> Batch:
    return Batch(
        users_B=torch.tensor([1, 2]),
        items_BL=torch.tensor([[1, 2, 3], [4, 0, 0]]),
        lengths_B=torch.tensor([3, 1]),
        targets_BL=torch.tensor([[0, 0, 5], [1, 0, 0]]),
        **more,
    )


def test_a_softmax_is_of_the_last_states() -> None:
    built, encoder = build_objective(config("next_item")), model()
    expected = torch.nn.functional.cross_entropy(encoder.table[[3, 4]] @ encoder.table[1:].T, torch.tensor([4, 0]))
    assert built.loss(encoder, batch()).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("shared", ["position", "sequence"])
@pytest.mark.parametrize("name", ["bce", "bpr", "gbce"])
def test_a_row_s_target_stands_beside_negatives_of_its_own(name: str, shared: str) -> None:
    """Drawn for rows, not for their positions."""
    built, encoder = objective(name, sampling="uniform", shared=shared, window="prefixes", stride=None), model()
    torch.manual_seed(5)
    loss = built.loss(encoder, batch())
    torch.manual_seed(5)
    sampler = build_sampler("uniform", COUNTS_V, 0.5)
    assert sampler is not None
    drawn_BK = sampler.draw(2, K, torch.tensor([5, 1]))
    assert loss.item() == pytest.approx(by_loop(name, encoder, [3, 4], [5, 1], drawn_BK).item(), rel=1e-5)


@pytest.mark.parametrize("shared", ["position", "sequence"])
def test_unmet_negatives_come_with_the_row(shared: str) -> None:
    built, encoder = objective("bce", sampling="unseen", shared=shared, window="prefixes", stride=None), model()
    assert built.draws_by_row
    drawn_BK = torch.randint(6, V + 1, (2, K))
    expected = by_loop("bce", encoder, [3, 4], [5, 1], drawn_BK)
    loss = built.loss(encoder, batch(negatives_BLK=drawn_BK[:, None]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def config(name: str) -> Any:
    return validate("train", compose("train", [f"objective={name}", "objective.window=prefixes"])).objective  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["objective=all_action"], "objective=all_action learns from several of the next events; use objective.window"),
        (["objective=sampled_all_action"], "learns from several of the next events"),
        (["model=bert4rec"], "objective=cloze hides events anywhere in it; use objective.window=sliding"),
        (["objective.stride=3"], "objective.stride=3 needs objective.window=sliding"),
    ],
)
def test_what_needs_more_of_a_row_is_refused_in_a_line(words: list[str], said: str) -> None:
    with pytest.raises(SeqrecError, match=said) as refusal:
        validate("train", compose("train", [*words, "objective.window=prefixes"]))
    assert "\n" not in str(refusal.value)


def test_a_bidirectional_model_may_learn_so_and_is_told_how() -> None:
    words = ["model=bert4rec", "objective=next_item"]
    validate("train", compose("train", [*words, "objective.window=prefixes"]))
    with pytest.raises(SeqrecError, match=r"use objective\.window=prefixes or objective=cloze"):
        validate("train", compose("train", words))
