"""Attention weights on request: of the events alone, and those that the score was made by."""

import numpy as np
import pytest
import torch
import toy


@pytest.mark.parametrize("name", ["bst", "dien", "din", "dsin"])
def test_weights_are_of_the_events_and_zero_at_padding(name: str) -> None:
    changes = [{}, {"blocks": 2}, {"read_out": "all"}] if name == "bst" else [{}]
    for change in changes:
        model, batch = toy.toy_model(name, init_std=0.5, **change).eval(), toy.toy_batch()
        items = torch.tensor([[3, 17]]).expand(toy.USERS, -1)
        weights = model.attention(batch, items)
        assert weights is not None
        assert weights.shape == (*batch.items_BL.shape, 2)
        assert not weights.masked_fill(batch.mask_BL[..., None], 0).any()
        assert not torch.allclose(weights[..., 0], weights[..., 1])
        if model.attention_is_shares:
            assert weights.min() >= 0
            assert weights.sum(1).max() < 1 + 1e-4
        assert model.attention_is_shares == (name != "din")
        if name in ("dien", "dsin"):  # normalised
            np.testing.assert_allclose(weights.sum(1).detach(), 1, rtol=1e-4)
        elif name == "bst":  # the candidate's own share is left
            assert (weights.sum(1) < 1).all()
            alone = toy.rows(batch, slice(2, 3))
            torch.testing.assert_close(model.attention(alone, items[2:3])[0], weights[2], rtol=1e-4, atol=1e-5)


def test_din_s_weights_are_shares_where_a_softmax_makes_them() -> None:
    items = torch.tensor([[3, 17]]).expand(toy.USERS, -1)
    for softmax in (True, False):
        model = toy.toy_model("din", init_std=0.5, softmax=softmax).eval()
        weights = model.attention(toy.toy_batch(), items)
        assert weights is not None
        assert model.attention_is_shares is softmax
        assert torch.allclose(weights.sum(1), torch.ones(toy.USERS, 2), rtol=1e-4) is softmax
