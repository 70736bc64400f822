"""SASRec's variants and settings."""

import dataclasses

import pytest
import torch
import toy
from pydantic import ValidationError

from seqrec_cli.models.contract import SequenceEncoder


def test_width_must_be_divisible_by_heads() -> None:
    with pytest.raises(ValidationError, match=r"model\.embed_dim=50 is not divisible by model\.heads=4; try 48 or 52"):
        toy.small_config("sasrec", embed_dim=50, heads=4)
    with pytest.raises(ValidationError, match=r"embed_dim=3 is not divisible by model\.heads=4; try 4\b"):
        toy.small_config("bst", embed_dim=3, heads=4)


def test_the_published_network_by_hand() -> None:
    """One block, one head, written out from the authors' description."""
    changes = {"norm": "published", "positions": "reversed", "blocks": 1, "heads": 1, "ffn_dim": 16}
    model = toy.toy_model("sasrec", **changes, temperature=None).eval()
    assert isinstance(model, SequenceEncoder)
    whole = toy.rows(toy.toy_batch(), slice(0, 1))
    batch = dataclasses.replace(whole, items_BL=whole.items_BL[:, :3])
    weight = dict(model.named_parameters())
    norm = torch.nn.LayerNorm(16, elementwise_affine=False)
    x = weight["items.weight"][batch.items_BL[0]] * 4 + weight["positions.table.weight"][[2, 1, 0]]
    linear = lambda name, y: y @ weight[f"blocks.0.{name}.weight"].T + weight[f"blocks.0.{name}.bias"]  # noqa: E731
    queries = norm(x)
    q = linear("attention.query", queries)
    k, v = linear("attention.key_value", x).chunk(2, dim=1)
    logits = (q @ k.T / 4).masked_fill(torch.ones(3, 3).triu(1).bool(), float("-inf"))
    x = norm(queries + logits.softmax(1) @ v)
    x = x + linear("feed_forward.down", linear("feed_forward.up", x).relu())
    torch.testing.assert_close(model.encode(batch)[0], norm(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{"norm": "published", "attention_dropout": 0.1}, {"positions": "none"}])
def test_variants_learn(changes: dict[str, object]) -> None:
    course = list(toy.losses(toy.toy_model("sasrec", **changes), steps=60, lr=0.01))
    assert course[-1] < 0.5 * course[0]


def test_positions_matter_unless_switched_off() -> None:
    batch = toy.rows(toy.toy_batch(), slice(7, 8))
    swapped = dataclasses.replace(batch, items_BL=batch.items_BL[:, [1, 0, *range(2, batch.items_BL.shape[1])]])
    for positions, same in (("absolute", False), ("reversed", False), ("none", True)):
        model = toy.toy_model("sasrec", positions=positions, init_std=1.0, blocks=1).eval()
        assert torch.allclose(model.score_corpus(batch), model.score_corpus(swapped), atol=1e-4) is same
