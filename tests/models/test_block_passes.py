"""What stands between the products of a transformer block, in C: beside the formulas in fp64.

The products are by the identity, which is exact in bf16, or by what `test_a_block_is_the_same_in_torch` draws.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from seqrec_cli.models.parts import activation_native, heads_native, native, residual_native
from seqrec_cli.models.parts.activation_native import activated
from seqrec_cli.models.parts.dropout import Dropout
from seqrec_cli.models.parts.heads_native import heads_of, joined
from seqrec_cli.models.parts.linear_native import WIDEST
from seqrec_cli.models.parts.mlp import ACTIVATIONS
from seqrec_cli.models.parts.residual import add, add_and_norm
from seqrec_cli.models.parts.residual_native import added, added_and_normed
from seqrec_cli.models.parts.transformer import TransformerBlock

in_c = pytest.mark.skipif(native.compiler() is None, reason="no C compiler here")
BF16 = torch.bfloat16
WIDTHS = [1, 5, 16, 36, 64, 200]
ROWS = 131  # more than one thread's block of them


def identity(width: int) -> nn.Linear:
    """A layer that adds its bias and no more."""
    layer = nn.Linear(width, width)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(width))
        layer.bias.copy_(torch.randn(width))
    layer.weight.requires_grad_(False)
    return layer


def norm_of(width: int) -> nn.LayerNorm:
    norm = nn.LayerNorm(width)
    nn.init.normal_(norm.weight, 1.0, 0.3)
    nn.init.normal_(norm.bias)
    return norm


def leaf(*shape: int) -> Tensor:
    return torch.randn(*shape).to(BF16).requires_grad_()


def exact(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


def low(made: Callable[[], Tensor]) -> Tensor:
    with torch.autocast("cpu", BF16):
        return made()


def fates(width: int, probability: float) -> Tensor:
    """The factors [ROWS, width] that a pass after `manual_seed(7)` multiplies with."""
    ones, zero = torch.ones(ROWS, width, dtype=BF16), torch.zeros(ROWS, width, dtype=BF16)
    layer = identity(width)
    nn.init.zeros_(layer.bias)
    torch.manual_seed(7)
    return low(lambda: added(zero, layer, ones, probability)).detach().double()


def close(got: Tensor, expected: Tensor, ulps: float = 2.0) -> None:
    torch.testing.assert_close(
        got.double(), expected.double(), rtol=ulps * 2**-8, atol=ulps * 2**-8 * max(expected.abs().max().item(), 2**-8)
    )


def test_where_the_passes_are_used() -> None:
    layer, x = nn.Linear(4, 8), torch.randn(3, 4)
    there = native.compiler() is not None
    asked: list[Callable[[nn.Linear, Tensor], bool]] = [
        activation_native.in_c,
        heads_native.in_c,
        lambda layer, x: residual_native.in_c(torch.empty(3, 8, dtype=BF16), layer, x),
    ]
    for of in asked:
        assert not of(layer, x)  # fp32
        with torch.autocast("cpu", BF16):
            assert of(layer, x) is there
            assert not of(nn.Linear(4, 8, bias=False), x)
            assert not of(nn.Linear(4, WIDEST + 1), x)
        assert not of(layer.to("meta"), x.to("meta"))
        layer = layer.to_empty(device="cpu")
    with torch.autocast("cpu", BF16):
        assert not residual_native.in_c(torch.empty(3, 8), layer, x)  # the stream is fp32
        assert not residual_native.in_c(torch.empty(1, 8, dtype=BF16), layer, x)  # one row for all


@in_c
@pytest.mark.parametrize("drop", [0.0, 0.25])
@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("width", WIDTHS)
def test_bias_activation_and_dropout(width: int, kind: str, drop: float) -> None:
    torch.manual_seed(width)
    layer, x, of = identity(width), leaf(ROWS, width), torch.randn(ROWS, width).to(BF16)
    factors = fates(width, drop)
    exact_x, exact_bias = exact(x, layer.bias)
    expected = ACTIVATIONS[kind]()(exact_x + exact_bias) * factors
    torch.manual_seed(7)
    got = low(lambda: activated(layer, x, kind, drop))
    assert got.dtype == BF16
    close(got, expected)
    found = torch.autograd.grad(got, [x, layer.bias], of)
    for mine, its in zip(found, torch.autograd.grad(expected, [exact_x, exact_bias], of.double()), strict=True):
        close(mine, its)
    assert found[1].dtype == torch.float32


@in_c
def test_gelu_over_all_its_range() -> None:
    """To 2^-8 of itself and 1e-4: the cumulated normal distribution is a fitted polynomial that ends at 4.5."""
    layer, x = identity(1), torch.linspace(-12, 12, 24_001)[:, None].to(BF16).requires_grad_()
    nn.init.zeros_(layer.bias)
    (exact_x,) = exact(x)
    got, expected = low(lambda: activated(layer, x, "gelu", 0.0)), nn.functional.gelu(exact_x)
    torch.testing.assert_close(got.double(), expected, rtol=2**-8, atol=1e-4)
    got.sum().backward()
    expected.sum().backward()
    assert x.grad is not None
    assert exact_x.grad is not None
    torch.testing.assert_close(x.grad.double(), exact_x.grad, rtol=2**-8, atol=1e-4)


@in_c
@pytest.mark.parametrize("drop", [0.0, 0.25])
@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_added(width: int, drop: float) -> None:
    torch.manual_seed(width)
    layer, x, inner = identity(width), leaf(ROWS, width), leaf(ROWS, width)
    of, factors = torch.randn(ROWS, width).to(BF16), fates(width, drop)
    leaves = exact(x, inner, layer.bias)
    expected = leaves[0] + (leaves[1] + leaves[2]) * factors
    torch.manual_seed(7)
    got = low(lambda: added(x, layer, inner, drop))
    close(got, expected)
    found = torch.autograd.grad(got, [x, inner, layer.bias], of)
    for mine, its in zip(found, torch.autograd.grad(expected, leaves, of.double()), strict=True):
        close(mine, its)


@in_c
@pytest.mark.parametrize("used", ["both", "sum", "norm"])
@pytest.mark.parametrize("drop", [0.0, 0.25])
@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_added_and_its_norm(width: int, drop: float, used: str) -> None:
    torch.manual_seed(width)
    layer, norm, x, inner = identity(width), norm_of(width), leaf(ROWS, width), leaf(ROWS, width)
    of, factors = torch.randn(2, ROWS, width).to(BF16), fates(width, drop)
    leaves = exact(x, inner, layer.bias, norm.weight, norm.bias)
    total = leaves[0] + (leaves[1] + leaves[2]) * factors
    expected = (total, nn.functional.layer_norm(total, (width,), leaves[3], leaves[4], norm.eps))
    torch.manual_seed(7)
    with torch.autocast("cpu", BF16):
        got = added_and_normed(x, layer, inner, drop, norm)
    for mine, its in zip(got, expected, strict=True):
        close(mine, its)
    which = {"both": [0, 1], "sum": [0], "norm": [1]}[used]
    own = [x, inner, layer.bias, norm.weight, norm.bias]
    found = torch.autograd.grad([got[i] for i in which], own, [of[i] for i in which], allow_unused=True)
    right = torch.autograd.grad(
        [expected[i] for i in which], leaves, [of[i].double() for i in which], allow_unused=True
    )
    for mine, its in zip(found, right, strict=True):
        close(mine, torch.zeros_like(mine) if its is None else its, ulps=4)


@in_c
@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize(("heads", "width"), [(1, 1), (2, 5), (4, 16), (2, 18), (1, 64), (4, 50)])
def test_heads_are_cut_and_joined(heads: int, width: int, parts: int) -> None:
    torch.manual_seed(width)
    channels = parts * heads * width
    layer, x = identity(channels), leaf(3, 47, channels)
    exact_x, exact_bias = exact(x, layer.bias)
    expected = (exact_x + exact_bias).view(3, 47, parts, heads, width).permute(2, 0, 3, 1, 4)
    with torch.autocast("cpu", BF16):
        got = heads_of((layer,), x, heads, parts)
    assert len(got) == parts
    of = torch.randn(parts, 3, heads, 47, width).to(BF16)
    for mine, its in zip(got, expected, strict=True):
        close(mine, its, ulps=1)
    found = torch.autograd.grad(got, [x, layer.bias], tuple(of), retain_graph=True)
    for mine, its in zip(found, torch.autograd.grad(expected, [exact_x, exact_bias], of.double()), strict=True):
        close(mine, its, ulps=1)
    alone = got[0].detach().transpose(2, 3).contiguous().transpose(2, 3).requires_grad_()  # in another layout
    together, of_joined = joined(alone), torch.randn(3, 47, heads * width).to(BF16)
    assert torch.equal(together, alone.transpose(1, 2).flatten(2))
    (back,) = torch.autograd.grad(together, alone, of_joined)
    assert torch.equal(back, of_joined.view(3, 47, heads, width).transpose(1, 2))


@in_c
def test_dropout_keeps_the_mean_and_draws_anew() -> None:
    layer, ones, zero = identity(64), torch.ones(5_000, 64, dtype=BF16), torch.zeros(5_000, 64, dtype=BF16)
    nn.init.zeros_(layer.bias)
    drawn = []
    for made in (
        lambda: added(zero, layer, ones, 0.25),
        lambda: added_and_normed(zero, layer, ones, 0.25, nn.LayerNorm(64))[0],
        lambda: activated(layer, ones, "relu", 0.25),
        lambda: activated(layer, ones, "relu", 0.25),
    ):
        gone = (low(made) == 0).double()
        error = 5 * math.sqrt(0.25 * 0.75 / 5_000)
        assert (gone.mean(0) - 0.25).abs().max() < error  # at every channel
        assert (gone.view(50, -1).mean(1) - 0.25).abs().max() < error  # and in every part of the rows
        drawn.append(gone)
    for i in range(4):
        for j in range(i):
            assert not torch.equal(drawn[i], drawn[j])


@in_c
def test_threads_change_no_value_and_no_draw() -> None:
    torch.manual_seed(0)
    x, layer, norm, before = leaf(1_003, 24), nn.Linear(24, 24), norm_of(24), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            torch.manual_seed(7)
            with torch.autocast("cpu", BF16):
                inner = activated(layer, x, "gelu", 0.3)
                made, normed = added_and_normed(x, layer, inner, 0.3, norm)
            gradients = torch.autograd.grad(made.sum() + normed.square().sum(), [x, layer.bias, norm.weight])
            found.append([made, normed, *gradients])
    finally:
        torch.set_num_threads(before)
    for mine, *others in zip(*found, strict=True):
        for other in others:
            torch.testing.assert_close(mine, other, rtol=2**-7, atol=1e-3)


@in_c
def test_what_is_no_number_shows() -> None:
    x, layer = torch.randn(5, 20).to(BF16), identity(20)
    x[1, 2] = float("nan")
    with torch.autocast("cpu", BF16):
        made, normed = added_and_normed(torch.zeros_like(x), layer, x, 0.0, nn.LayerNorm(20))
        found = {kind: activated(layer, x, kind, 0.0) for kind in ACTIVATIONS}
        (heads,) = heads_of((layer,), x[None], 2, 1)
    assert normed[1].isnan().all()
    assert normed.isnan().sum() == 20
    assert heads[0, 0, 1].isnan().any()
    for one in (made, *found.values()):
        assert one[1].isnan().any()
        assert not one[[0, 2, 3, 4]].isnan().any()


@in_c
def test_no_rows_at_all() -> None:
    layer, norm, x = nn.Linear(8, 8), nn.LayerNorm(8), leaf(0, 4, 8)
    with torch.autocast("cpu", BF16):
        q, k = heads_of((nn.Linear(8, 16),), x, 2, 2)
        made, normed = added_and_normed(x, layer, activated(layer, joined(q + k), "gelu", 0.5), 0.5, norm)
    assert made.shape == normed.shape == (0, 4, 8)
    (made.sum() + normed.sum()).backward()
    for parameter in (layer.bias, norm.weight, norm.bias):
        assert torch.equal(parameter.grad, torch.zeros(8))


@in_c
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_is_the_same_in_torch(norm: str, activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    block = TransformerBlock(32, 4, 72, norm, activation, 0.0, 0.0)  # type: ignore[arg-type]
    x, mask_BL = torch.randn(6, 40, 32), torch.arange(40) < torch.tensor([40, 3, 1, 17, 40, 22])[:, None]
    of = torch.randn(6, 40, 32)

    def run(dtype: torch.dtype) -> list[Tensor]:
        leaf_x = x.to(dtype).requires_grad_()
        with torch.autocast("cpu", BF16, enabled=dtype == BF16):
            made = block(leaf_x, mask_BL=mask_BL)
        found = torch.autograd.grad(made, [leaf_x, *block.parameters()], of.to(made.dtype))
        return [made.detach(), *found]

    calls = count_calls(monkeypatch)
    in_c, right = run(BF16), run(torch.float32)
    assert calls == {"activated": 1, "heads_of": 1, "joined": 1, "normed": 1 if norm == "pre" else 2}
    for module in (activation_native, heads_native, residual_native):
        monkeypatch.setattr(module, "in_c", lambda *_: False)
    monkeypatch.setattr(heads_native, "joins_in_c", lambda _: False)
    in_torch = run(BF16)
    assert sum(calls.values()) == (4 if norm == "pre" else 5)
    for mine, torchs, its in zip(in_c, in_torch, right, strict=True):
        scale = its.float().norm()
        error, torchs_error = (mine.float() - its).norm() / scale, (torchs.float() - its).norm() / scale
        assert error <= 2 * torchs_error + 2**-8  # torch adds biases before it rounds a product


def count_calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    calls: dict[str, int] = {}

    def counted(module: object, name: str, label: str) -> None:
        real = getattr(module, name)

        def call(*args: object) -> object:
            calls[label] = calls.get(label, 0) + 1
            return real(*args)

        monkeypatch.setattr(module, name, call)

    counted(activation_native, "activated", "activated")
    counted(heads_native, "heads_of", "heads_of")
    counted(heads_native, "joined", "joined")
    counted(residual_native, "added_and_normed", "normed")
    return calls


@in_c
def test_a_layer_that_is_none_adds_by_torch() -> None:
    """Attention may have no last projection."""
    x, inner = torch.randn(3, 8).to(BF16), torch.randn(3, 8).to(BF16)
    norm, drop = nn.LayerNorm(8), Dropout(0.0)
    with torch.autocast("cpu", BF16):
        assert torch.equal(add(x, nn.Identity(), inner, drop), x + inner)
        made, normed = add_and_norm(x, nn.Identity(), inner, drop, norm)
    assert torch.equal(made, x + inner)
    close(normed, norm(made.float()))


@in_c
def test_dropout_acts_in_training_alone() -> None:
    x, layer, drop = torch.zeros(50, 8, dtype=BF16), identity(8), Dropout(0.5)
    nn.init.ones_(layer.bias)
    with torch.autocast("cpu", BF16):
        trained, evaluated = add(x, layer, x, drop.train()), add(x, layer, x, drop.eval())
    assert set(trained.flatten().tolist()) == {0.0, 2.0}
    assert torch.equal(evaluated, torch.ones_like(x))
