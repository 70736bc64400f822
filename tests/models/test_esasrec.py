"""eSASRec's gated blocks by hand."""

import dataclasses

import torch
import toy

from seqrec_cli.models.encoder import ItemEncoder


def test_the_gated_block_by_hand() -> None:
    """One block, one head: pre-norm, SwiGLU, and a sigmoid of the stream on each branch."""
    model = toy.toy_model("esasrec", blocks=1, heads=1, positions="absolute", temperature=None).eval()
    assert isinstance(model, ItemEncoder)
    whole = toy.rows(toy.toy_batch(), slice(0, 1))
    batch = dataclasses.replace(whole, items_BL=whole.items_BL[:, :3])
    weight = dict(model.named_parameters())
    norm = torch.nn.LayerNorm(16, elementwise_affine=False)
    linear = lambda name, y: y @ weight[f"blocks.0.{name}.weight"].T + weight[f"blocks.0.{name}.bias"]  # noqa: E731
    x = weight["items.weight"][batch.items_BL[0]] + weight["positions.table.weight"][:3]
    inner = norm(x)
    q = linear("attention.query", inner)
    k, v = linear("attention.key_value", inner).chunk(2, dim=1)
    logits = (q @ k.T / 4).masked_fill(torch.ones(3, 3).triu(1).bool(), float("-inf"))
    x = x + linear("gate_attention", x).sigmoid() * linear("attention.out", logits.softmax(1) @ v)
    gate, value = (norm(x) @ weight["blocks.0.feed_forward.up.weight"].T).chunk(2, dim=1)
    fed = (gate * gate.sigmoid() * value) @ weight["blocks.0.feed_forward.down.weight"].T
    x = x + linear("gate_feed_forward", x).sigmoid() * fed
    torch.testing.assert_close(model.encode(batch)[0], norm(x), rtol=1e-4, atol=1e-5)


def test_a_closed_gate_leaves_the_stream_alone() -> None:
    model = toy.toy_model("esasrec", blocks=2).eval()
    assert isinstance(model, ItemEncoder)
    x, batch = torch.randn(8, 10, 16), toy.toy_batch()
    assert not torch.allclose(model.forward_layers(x, batch), x, atol=0.01)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gate_" in name:
                parameter.fill_(-200.0 if name.endswith("bias") else 0.0)
    torch.testing.assert_close(model.forward_layers(x, batch), x)
