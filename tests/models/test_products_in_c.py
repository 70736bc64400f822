"""Models whose fp32 products are made in C beside the same by torch's operators: each way that attention is made, rows
that are packed, and a penalty with gradients of gradients. Also that what is compiled or exported holds no C."""

from typing import Any

import pytest
import torch
import toy
from test_packed_rows import loss_and_gradients, objective
from torch import Tensor
from torch.export import Dim

from seqrec_cli import kernels
from seqrec_cli.kernels import registry
from seqrec_cli.kernels.build import compiler
from seqrec_cli.kernels.linear import op as linear
from seqrec_cli.kernels.split_heads.op import pack_rows
from seqrec_cli.models.layers.transformer import TransformerBlock

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler here")
LOCAL = {"attention_form": "local", "attention_window": 3}
CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("sasrec", {}, ["attention", "linear"]),
    ("sasrec", {"norm": "published", "ffn_dim": 16, "positions": "rotary"}, ["attention", "linear"]),
    ("sasrec", {"positions": "relative"}, ["linear"]),
    ("sasrec", {"attention_form": "linear"}, ["linear"]),
    ("sasrec", LOCAL, ["linear"]),
    ("sasrec", {"agreement": "bias", "blocks": 2}, ["attention", "linear"]),  # but for the block with a bias
    ("sasrec", {"agreement": "pooling"}, ["attention", "linear"]),
    ("sasrec", {"positions": "reversed", "padding": "masked"}, ["linear"]),
    ("sasrec", {"positions": "reversed", "padding": "trained"}, ["attention", "linear"]),
    ("esasrec", {}, ["attention", "linear"]),
    ("bsarec", {}, ["attention", "linear"]),
    ("recdenoiser", {"smoothness": 1.0}, ["linear"]),
    ("bert4rec", {}, ["attention", "linear"]),
    ("bst", {}, ["linear"]),  # candidates attend by products of their own
]
Gradients = tuple[float, dict[str, Tensor]]


@pytest.fixture(autouse=True)
def for_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "FEWEST_ROWS", 1)


def switch(monkeypatch: pytest.MonkeyPatch, on: bool) -> None:
    monkeypatch.setattr(registry, "_PRODUCTS", "1" if on else "0")
    kernels.use(True)


def same(mine: Gradients, torchs: Gradients) -> None:
    assert mine[0] == pytest.approx(torchs[0], rel=1e-5)
    assert mine[1].keys() == torchs[1].keys()
    for key, gradient in torchs[1].items():
        torch.testing.assert_close(mine[1][key], gradient, rtol=1e-3, atol=5e-5 * float(gradient.abs().max()) + 1e-7)


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_the_loss_and_gradients_are_those_by_torchs_operators(
    name: str, changes: dict[str, Any], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch, found = toy.toy_model(name, **changes).train(), toy.toy_batch(), []
    for on in (True, False):
        switch(monkeypatch, on)
        model.zero_grad()
        torch.manual_seed(4)  # of drawn masks
        loss = toy.toy_loss(model, batch)
        loss.backward()
        found.append((loss.item(), {key: p.grad for key, p in model.named_parameters() if p.grad is not None}))
        of_products = [kernel for kernel in kernels.ran() if kernel in ("attention", "linear")]
        assert of_products == (expected if on else [])
        model.zero_grad(set_to_none=True)
    same(*found)


@pytest.mark.parametrize(("name", "changes"), [("sasrec", {}), ("esasrec", {"positions": "rotary"})])
def test_rows_laid_end_to_end_have_the_same_loss(
    name: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    built, found = objective("next_item", "packed", negatives=None), []
    for on in (True, False):
        switch(monkeypatch, on)
        found.append(loss_and_gradients(built, toy.toy_model(name, **changes).train(), toy.toy_batch()))
        assert ("corpus_gradients" in kernels.ran()) == on
    same(*found)


def test_a_program_of_any_length_is_made_by_torchs_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch.export and by torch.compile; whether rows would be packed fixes no length either."""
    switch(monkeypatch, True)

    class Packed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = TransformerBlock(8, 2, 12, norm="pre", activation="gelu", drop=0.0)

        def forward(self, x_BLD: Tensor, lengths_B: Tensor) -> Tensor:
            packing = pack_rows(lengths_B, x_BLD.shape[1], self.block.attention.query, x_BLD, step=lambda: 1)
            assert packing is None
            found: Tensor = self.block(x_BLD, causal=True)
            return found

    module, given = Packed(), (torch.randn(6, 5, 8), torch.tensor([5, 3, 1, 2, 4, 5]))
    shapes = ({0: Dim("B", min=1), 1: Dim("L", min=1)}, {0: Dim("B", min=1)})
    program = torch.export.export(module, given, dynamic_shapes=shapes, strict=False)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    assert "seqrec" not in str(program.graph)
    others = torch.randn(3, 7, 8), torch.tensor([7, 1, 2])
    found = [program.module()(*others), compiled(*others)]
    assert "linear" not in kernels.ran()
    for made in found:
        torch.testing.assert_close(made, module.block(others[0], causal=True), rtol=1e-5, atol=1e-5)
    assert "linear" in kernels.ran()
