"""Row-sparse gradients: of the rows a step used and no others, with the same numbers as dense ones."""

import pytest
import torch
import toy
from torch import nn

from seqrec_cli.config.registry import config_class, names
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.models.layers.embedding import AttributeEmbedding, use_sparse_rows
from seqrec_cli.objectives.contract import build_objective
from tests.covering import covering
from tests.shipped import shipped


def pairs() -> list[tuple[str, str]]:
    """Every model and objective that may train with row-sparse gradients."""
    found = []
    for name in toy.model_names():
        model = config_class("model", toy.code_of(name)).capabilities  # type: ignore[attr-defined]
        for loss in names("objective"):
            objective = config_class("objective", loss).capabilities  # type: ignore[attr-defined]
            if model.family in objective.families and model.sparse_rows and objective.sparse_rows:
                found.append((name, loss))
    return found


def batch() -> Batch:
    """The first three toy users, so that most items are not used; with one negative a position."""
    few = toy.rows(toy.toy_batch(), slice(0, 3))
    assert few.targets_BL is not None
    return Batch(**(vars(few) | {"negatives_BLK": (few.targets_BL % toy.ITEMS + 1)[:, :, None]}))


def gradients(name: str, objective: str, sparse: bool) -> tuple[Recommender, float]:
    """A model after one backward pass, and the loss."""
    model = toy.toy_model(name)
    if sparse:
        use_sparse_rows(model)
    plain = shipped("objective", objective)
    if plain.get("sampling", "unseen") != "unseen":
        plain |= {"negatives": 6}
    built = build_objective(config_class("objective", plain["name"]).from_plain(plain))  # type: ignore[arg-type]
    built.prepare(torch.ones(toy.ITEMS + 1, dtype=torch.int64))
    torch.manual_seed(0)
    loss = built.loss(model.train(), batch())
    loss.backward()
    return model, loss.item()


def test_there_are_such_pairs() -> None:
    assert {
        ("sasrec", "sampled_softmax"),
        ("sasrec", "bce"),
        ("sasrec", "gbce"),
        ("sasrec", "click"),
        ("bst", "click"),
    } <= set(pairs())
    assert not any(objective == "next_item" for _, objective in pairs())


@pytest.mark.parametrize(("name", "objective"), covering(pairs()))
def test_rows_in_use_get_the_dense_gradient_and_others_none(name: str, objective: str) -> None:
    (dense, loss_), (sparse, loss) = gradients(name, objective, False), gradients(name, objective, True)
    assert loss == pytest.approx(loss_, rel=1e-5)
    small = {id(part.table) for part in sparse.modules() if isinstance(part, AttributeEmbedding)}
    tables = {
        f"{key}.weight"
        for key, part in sparse.named_modules()
        if isinstance(part, nn.Embedding) and part.padding_idx == 0 and id(part) not in small
    }
    assert tables
    for (key, ours), theirs in zip(sparse.named_parameters(), dense.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert ours.grad.is_sparse == (key in tables), key
        rounding = 5e-5 * theirs.grad.abs().max().item()  # the looked-up sums differ in their last bit from the start
        torch.testing.assert_close(ours.grad.to_dense(), theirs.grad, rtol=1e-4, atol=rounding)
        if key in tables:
            used = set(theirs.grad.any(1).nonzero()[:, 0].tolist())
            held = ours.grad.indices()[0].tolist()
            assert used <= set(held) - {0}
            assert len(held) < len(theirs)
            assert not ours.grad.to_dense()[0].any()


def test_a_gradient_of_the_padding_row_is_zeroed() -> None:
    model = toy.toy_model("sasrec")
    use_sparse_rows(model)
    table = next(m for m in model.modules() if isinstance(m, nn.Embedding) and m.sparse)
    rows = torch.tensor([0, 3, 3])
    nn.functional.embedding(rows, table.weight, sparse=True).sum().backward()
    gradient = table.weight.grad
    assert gradient is not None
    assert gradient.is_coalesced()
    assert not gradient.to_dense()[0].any()
    assert (gradient.to_dense()[3] == 2).all()
