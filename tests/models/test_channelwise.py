"""PReLU and Dice as layers: the formulas in fp64, their running averages, and what is not a number."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from seqrec_cli import kernels
from seqrec_cli.kernels.build import compiler
from seqrec_cli.kernels.prelu_dice.reference import EPSILON
from seqrec_cli.models.layers.channelwise import MOMENTUM, Dice, PReLU

in_c = pytest.mark.skipif(compiler() is None, reason="no C compiler here")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-7}
WIDTHS = [1, 36]


@pytest.fixture(params=[pytest.param("c", marks=in_c), "torch"])
def path(request: pytest.FixtureRequest) -> Iterator[None]:
    kernels.use(request.param == "c")
    yield
    kernels.use(True)


def layer(name: str, M: int) -> Dice | PReLU:
    made = Dice(M) if name == "dice" else PReLU(M)
    torch.nn.init.uniform_(made.slope, -0.5, 0.9)
    return made


def inputs(M: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """x [7, 50, M] about a mean that is not 0, who is real [7, 50], and a weight [M]."""
    torch.manual_seed(M)
    x = (torch.randn(7, 50, M) * torch.linspace(0.3, 3, M) + 0.7).to(dtype)
    return x, torch.rand(7, 50) < 0.7, torch.randn(M)


def by_formula(made: Dice | PReLU, x: Tensor, real: Tensor, weight: Tensor | None) -> Tensor:
    """In the format of x, which gradients flow to, through the statistics of training too."""
    slope = made.slope.to(x.dtype)
    if isinstance(made, PReLU):
        gate = (x > 0).to(x.dtype)
    else:
        mean, var = made.running_mean.to(x.dtype), made.running_var.to(x.dtype)
        if made.training:
            mean, var = x[real].mean(0), x[real].var(0, unbiased=False)
        gate = torch.sigmoid((x - mean) / (var + EPSILON).sqrt())
    bent = x * (slope + (1 - slope) * gate)
    return bent if weight is None else (bent * weight.to(x.dtype)).sum(-1)


def differentiated(made: Dice | PReLU, y: Tensor, of: Tensor, *leaves: Tensor) -> list[Tensor]:
    return [y.detach(), *torch.autograd.grad(y, [*leaves, made.slope], of.to(y.dtype))]


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["prelu", "dice"])
@pytest.mark.parametrize("M", WIDTHS)
def test_outputs_and_gradients_are_the_formulas(name: str, M: int, training: bool, dtype: torch.dtype) -> None:
    made, (x, real, _) = layer(name, M).train(training), inputs(M, dtype)
    exact, of = x.double().requires_grad_(), torch.randn(7, 50, M)
    x = x.requires_grad_()
    expected = differentiated(made, by_formula(made, exact, real, None), of, exact)
    y = made(x, real) if isinstance(made, Dice) else made(x)
    assert y.dtype == dtype
    compare(differentiated(made, y, of, x), expected, TOLERANCE[dtype])


def compare(got: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for mine, exact in zip(got, expected, strict=True):
        torch.testing.assert_close(
            mine.double(), exact.double(), rtol=4 * tolerance, atol=4 * tolerance * exact.abs().max().item()
        )


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", ["prelu", "dice"])
def test_weighted_sums_are_the_formulas(name: str) -> None:
    made, (x, real, weight) = layer(name, 20).eval(), inputs(20, torch.float32)
    expected = by_formula(made, x.double(), real, weight).float()
    torch.testing.assert_close(made.weighted(x, real, weight)[real], expected[real], rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("path")
def test_running_averages_take_their_share_of_real_rows_once() -> None:
    x, real, weight = inputs(36, torch.float32)
    for weighted in (False, True):
        made = Dice(36)
        made.weighted(x, real, weight) if weighted else made(x, real)
        mean, var = x[real].mean(0), x[real].var(0, unbiased=False)
        torch.testing.assert_close(made.running_mean, MOMENTUM * mean, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(made.running_var, 1 - MOMENTUM + MOMENTUM * var, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("path")
def test_rows_that_are_all_padding_or_all_alike_give_finite_gradients() -> None:
    for x, real in ((torch.randn(6, 20), torch.zeros(6, dtype=torch.bool)), (torch.ones(6, 20), None)):
        made, leaf = Dice(20), x.clone().requires_grad_()
        made(leaf, real).sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert made.running_mean.isfinite().all()


@in_c
def test_large_numbers_saturate_and_what_is_no_number_shows() -> None:
    made = Dice(20).eval()
    torch.nn.init.constant_(made.slope, 0.25)
    x = torch.full((4, 20), 1e30)
    x[1], x[2, 3] = -1e30, float("nan")
    y = made(x)
    torch.testing.assert_close(y[0], x[0])
    torch.testing.assert_close(y[1], 0.25 * x[1])
    assert y[2].isnan().sum() == 1
    assert made.weighted(x, None, torch.ones(20)).isnan().tolist() == [False, False, True, False]


@in_c
def test_any_layout_is_read_as_it_stands() -> None:
    made, x = Dice(6).eval(), torch.randn(6, 9, 4).transpose(0, 2)
    torch.testing.assert_close(made(x), made(x.contiguous()))
    real = torch.rand(4, 1) < 0.5
    whole = made.weighted(x, real.expand(4, 9), torch.ones(6))
    torch.testing.assert_close(made.weighted(x, real, torch.ones(6)), whole)


@in_c
def test_gradients_are_bit_for_bit_the_same_every_time() -> None:
    found = []
    for _ in range(3):
        made, (x, real, weight) = layer("dice", 36), inputs(36, torch.bfloat16)
        torch.nn.init.constant_(made.slope, 0.1)
        x = x.repeat(20, 1, 1).requires_grad_()
        made.weighted(x, real.repeat(20, 1), weight).sum().backward()
        assert x.grad is not None
        found.append(x.grad)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
