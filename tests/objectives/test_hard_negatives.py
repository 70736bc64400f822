"""Negatives that the model scores highest, of pools of unseen items: the loss of the ones that a loop would take."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_objectives import Fixed
from test_sampled_objective import Biased, D, K, V, batch, by_loop, grads, objective

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.objectives import sampled_losses

POOL = 4


def pools(shared: str) -> torch.Tensor:
    """Items 5 to 12, which no row has, for each position or row; one place without an item."""
    torch.manual_seed(2)
    drawn = torch.randint(5, V + 1, (2, 3 if shared == "position" else 1, K * POOL))
    drawn[0, 0, 2] = 0
    return drawn


def hardest(model: Fixed, pool_P: torch.Tensor, query: int) -> torch.Tensor:
    """The K of a pool that stand highest after an item."""
    bias = model.item_bias()
    scores_V = model.table @ model.table[query] + (0 if bias is None else bias)
    real_P = pool_P[pool_P > 0]
    return real_P[scores_V[real_P].argsort(descending=True)[:K]]


@pytest.mark.parametrize("rows", [0, 64])  # by copied vectors, by a product with all items
@pytest.mark.parametrize("kind", [Fixed, Biased])
@pytest.mark.parametrize("shared", ["position", "sequence"])
@pytest.mark.parametrize("name", ["bce", "bpr"])
def test_a_position_stands_beside_the_hardest_of_its_pool(
    monkeypatch: Any, name: str, shared: str, kind: type, rows: int
) -> None:
    monkeypatch.setattr(sampled_losses, "TABLE_ROWS_A_NEGATIVE", rows)
    torch.manual_seed(1)
    model, drawn = kind(torch.randn(V + 1, D)), pools(shared)
    built = objective(name, sampling="hard", shared=shared, pool=POOL)
    assert built.negatives_per_position == K * POOL
    assert built.draws_by_row == (shared == "sequence")
    loss = built.loss(model, batch(drawn))
    ours = grads(model, loss)
    each = drawn.expand(2, 3, K * POOL).flatten(0, 1)[[0, 1, 2, 3]]
    chosen = [hardest(model, pool_P, query) for query, pool_P in zip([1, 2, 3, 4], each, strict=True)]
    plain = by_loop(name, model, [1, 2, 3, 4], [2, 3, 4, 1], chosen)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    for a, b in zip(ours, grads(model, plain), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shared", ["position", "sequence"])
@pytest.mark.parametrize("window", ["sliding", "prefixes"])
def test_a_pool_stays_with_its_row_where_others_are_shorter(window: str, shared: str) -> None:
    """Of prefixes a row has one target, and one pool."""
    torch.manual_seed(1)
    model, each = Fixed(torch.randn(V + 1, D)), window == "sliding"
    targets_BL = torch.tensor([[2, 0, 0], [3, 4, 1]]) if each else torch.tensor([[2, 0, 0], [0, 0, 1]])
    given = Batch(torch.tensor([1, 2]), torch.tensor([[1, 0, 0], [2, 3, 4]]), torch.tensor([1, 3]))
    drawn = torch.randint(5, V + 1, (2, 3 if each and shared == "position" else 1, K * POOL))
    built = objective("bce", sampling="hard", shared=shared, pool=POOL, window=window, stride=None)
    loss = built.loss(model, replace(given, targets_BL=targets_BL, negatives_BLK=drawn))
    queries, targets = ([1, 2, 3, 4], [2, 3, 4, 1]) if each else ([1, 4], [2, 1])
    pools_NP = drawn.expand(2, 3, -1).flatten(0, 1)[[0, 3, 4, 5] if each else [0, 3]]
    chosen = [hardest(model, pool_P, query) for query, pool_P in zip(queries, pools_NP, strict=True)]
    assert loss.item() == pytest.approx(by_loop("bce", model, queries, targets, chosen).item(), rel=1e-5)


def test_a_pool_of_as_many_as_are_kept_leaves_no_choice() -> None:
    torch.manual_seed(1)
    model, drawn = Fixed(torch.randn(V + 1, D)), pools("sequence")[..., :K]
    losses = [
        objective("bce", shared="sequence", **how).loss(model, batch(drawn)).item()
        for how in ({"sampling": "hard", "pool": 1}, {"sampling": "unseen"})
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["objective=bce", "objective.sampling=hard", "objective.shared=batch"], "share no unseen items"),
        (
            [
                "objective=sampled_softmax",
                "objective.sampling=hard",
                "objective.shared=sequence",
                "objective.log_q=all",
            ],
            "do not stand for",
        ),
        (["objective=gbce", "objective.sampling=hard"], "calibration of gbce holds for uniform"),
        (["objective=bce", "objective.pool=9"], "objective.pool=9 has no effect"),
        (["objective=bce", "objective.sampling=hard", "hardware.table=sharded"], "looked up in one table"),
        (["objective=bce", "objective.sampling=cross_batch"], "vectors are shared by targets of a batch"),
        (["objective=gbce", "objective.sampling=cross_batch"], "calibration of gbce holds for uniform"),
        (["objective=sampled_softmax", "objective.sampling=cross_batch", "model=ensemble"], "vectors of one model"),
        (["objective=bce", "objective.memory=9"], "objective.memory=9 has no effect"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(overrides: list[str], words: str) -> None:
    with pytest.raises(SeqrecError, match=words) as told:
        validate("train", compose("train", overrides))
    assert "\n" not in str(told.value)
