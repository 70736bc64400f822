"""Mini-batch-aware L2, vector by vector in numpy: once a batch or by occurrences, attributes too."""

from collections import Counter

import numpy as np
import pytest
import torch
import toy
from torch import Tensor

from seqrec_cli.models.ranker import Ranker


def ranker(name: str, **changes: object) -> Ranker:
    """One that has counted items 1, 2, 3, ... as often, and users likewise."""
    model = toy.toy_model(name, init_std=0.5, user_id=True, l2=0.3, **changes)
    assert isinstance(model, Ranker)
    model.prepare(torch.arange(toy.ITEMS + 1), torch.arange(toy.USERS + 1))
    return model.train()


def held(items_N: Tensor, users_B: Tensor) -> list[tuple[str, int, int]]:
    """(table, row, training events of its row) of everything that a batch holds, as often as it does."""
    catalog = toy.toy_catalog()
    found = [("item", i, i) for i in items_N.tolist() if i] + [("user", u, u) for u in users_B.tolist() if u]
    for values, rows in ((catalog.item_values, items_N), (catalog.user_values, users_B)):
        for name, values_RW in values.items():
            counts = Counter(int(v) for row, of_row in enumerate(values_RW) for v in of_row for _ in range(row))
            found += [(name, int(v), counts[int(v)]) for row in rows.tolist() if row for v in values_RW[row] if v]
    return found


def by_hand(model: Ranker, items_N: Tensor, users_B: Tensor, *, once: bool, attributes: bool) -> float:
    assert model.items.own is not None
    assert model.users.own is not None
    tables = {"item": model.items.own, "user": model.users.own}
    tables |= {name: a.table for name, a in [*model.items.attributes.items(), *model.users.attributes.items()]}  # type: ignore[union-attr, misc]
    kept = [entry for entry in held(items_N, users_B) if attributes or entry[0] in ("item", "user")]
    kept = list(dict.fromkeys(kept)) if once else kept
    squares = [np.square(tables[name].weight[row].detach().double().numpy()).sum() / n for name, row, n in kept]
    return float(sum(squares))


@pytest.mark.parametrize("attributes", [False, True])
@pytest.mark.parametrize("counts", ["once", "occurrences"])
@pytest.mark.parametrize("name", ["bst", "din"])
def test_squares_over_training_events(name: str, counts: str, attributes: bool) -> None:
    model, batch = ranker(name, l2_counts=counts, l2_attributes=attributes), toy.toy_batch()
    assert batch.candidates_BC is not None
    items_N = torch.cat([batch.items_BL.flatten(), batch.candidates_BC.flatten()])
    users_B = torch.cat([batch.users_B, batch.users_B[:3]])  # rows of the same user
    got = model._squares_over_counts(items_N, users_B)
    expected = by_hand(model, items_N, users_B, once=counts == "once", attributes=attributes)
    assert got.item() == pytest.approx(expected, rel=1e-4)
    other = by_hand(model, items_N, users_B, once=counts != "once", attributes=attributes)
    assert abs(expected - other) > 0.1 * expected  # the batch holds things more than once


def test_attributes_learn_from_it() -> None:
    model, batch = ranker("din", l2_attributes=True), toy.toy_batch()
    model._squares_over_counts(batch.items_BL.flatten(), batch.users_B).backward()
    gradients = [a.table.weight.grad for a in model.items.attributes.values()]  # type: ignore[union-attr]
    assert all(g is not None and g[1:].any() and not g[0].any() for g in gradients)  # type: ignore[index, union-attr]
    assert all(a.counts_A[1:].all() for a in model.items.attributes.values())  # type: ignore[index, union-attr]
