"""Dropout's random numbers: their statistics, on the C path and the reference's, and what does not change them."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from seqrec_cli import kernels
from seqrec_cli.kernels import registry
from seqrec_cli.kernels.bias_activation_dropout.op import linear_activation_dropout
from seqrec_cli.kernels.bias_dropout_add_norm.op import linear_dropout_add, linear_dropout_add_norm
from seqrec_cli.kernels.build import compiler
from seqrec_cli.kernels.dropout.op import draw, dropout
from seqrec_cli.kernels.embed_norm_dropout.op import embed_norm_dropout
from seqrec_cli.models.layers.dropout import Dropout

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler here")
FORMATS = [torch.float32, torch.bfloat16]
BF16 = torch.bfloat16


@pytest.fixture(params=[pytest.param("c", marks=needs_compiler), "torch"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    kernels.use(request.param == "c")
    yield request.param
    kernels.use(True)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_at_every_position(probability: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(640_000, dtype=dtype, requires_grad=True)
    y = dropout(x, probability)
    dropped = round(probability * 256) / 256
    kept = y[y != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - dropped)))
    gone = (y == 0).float()
    error = 5 * math.sqrt(dropped * (1 - dropped) / 10_000)
    shares = gone.view(-1, 64).mean(0)  # one for each position of a group
    assert (shares - dropped).abs().max() < error
    for apart in (1, 8, 16, 64, 1024):  # neighbours, of a word, of a group and of groups, are independent
        both = (gone[:-apart] * gone[apart:]).mean()
        assert abs(both - dropped**2) < error / 5
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


@needs_compiler
def test_both_paths_draw_the_same_numbers() -> None:
    x, found = torch.randn(1_003, dtype=BF16), []
    for on in (True, False):
        kernels.use(on)
        torch.manual_seed(5)
        found.append(dropout(x, 0.3))
    kernels.use(True)
    assert torch.equal(*found)


@pytest.mark.usefixtures("path")
def test_dropout_draws_anew_and_repeats_with_a_seed() -> None:
    x, layer = torch.ones(37, 5), Dropout(0.5)
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.usefixtures("path")
def test_dropout_of_a_tiny_probability_still_drops() -> None:
    assert (dropout(torch.ones(20_000), 0.001) == 0).any()


def test_seeds_have_64_random_bits() -> None:
    seeds = [draw(0.5)[0] for _ in range(200)]
    assert min(seeds) < -(2**61)
    assert max(seeds) > 2**61
    assert draw(0.0) == (0, 0)
    assert draw(0.999_999)[1] == 255


@needs_compiler
@pytest.mark.parametrize("dtype", [BF16, torch.float32])
def test_fused_kernels_keep_the_mean_and_draw_anew(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_PRODUCTS", "1")
    layer, ones, zero = nn.Linear(64, 64), torch.ones(5_000, 64, dtype=dtype), torch.zeros(5_000, 64, dtype=dtype)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    nothing_P, table = torch.zeros(5_000, dtype=torch.int64), torch.ones(1, 64)
    drawn: list[Tensor] = []
    for made in (
        lambda: linear_dropout_add(zero, layer, ones, 0.25),
        lambda: linear_dropout_add_norm(zero, layer, ones, 0.25, nn.LayerNorm(64))[0],
        lambda: linear_activation_dropout(layer, ones, "relu", 0.25),
        lambda: linear_activation_dropout(layer, ones, "relu", 0.25),
        lambda: embed_norm_dropout(
            nothing_P, nothing_P, table, table[0], None, norm=None, probability=0.25, size=5_000
        ),
    ):
        with torch.autocast("cpu", BF16, enabled=dtype == BF16):
            gone = (made() == 0).double()
        error = 5 * math.sqrt(0.25 * 0.75 / 5_000)
        assert (gone.mean(0) - 0.25).abs().max() < error  # at every channel
        assert (gone.view(50, -1).mean(1) - 0.25).abs().max() < error  # and in every part of the rows
        assert not any(torch.equal(gone, other) for other in drawn)
        drawn.append(gone)
