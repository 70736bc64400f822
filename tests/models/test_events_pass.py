"""What a transformer reads of each event, in one pass of C: beside the formulas in fp64."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_cli.models.parts import events_native, native
from seqrec_cli.models.parts.linear_native import WIDEST

pytestmark = pytest.mark.skipif(native.compiler() is None, reason="no C compiler here")
BF16, ITEMS, PLACES = torch.bfloat16, 40, 9


def low(made: Callable[[], Tensor]) -> Tensor:
    with torch.autocast("cpu", BF16):
        return made()


def parameters(width: int, places: bool, norm: bool) -> tuple[Tensor, Tensor, Tensor | None, nn.LayerNorm | None]:
    layer = nn.LayerNorm(width) if norm else None
    if layer is not None:
        nn.init.normal_(layer.weight, 1.0, 0.3)
        nn.init.normal_(layer.bias)
    table_VD, mask_D, table_TD = (torch.randn(*shape, width) for shape in ((ITEMS,), (), (PLACES,)))
    of_places = table_TD.requires_grad_() if places else None
    return table_VD.requires_grad_(), mask_D.requires_grad_(), of_places, layer


def fates(rows: int, width: int, probability: float) -> Tensor:
    """The factors [P, D] that a pass after `manual_seed(7)` multiplies with."""
    torch.manual_seed(7)
    nothing_P = torch.zeros(rows, dtype=torch.int64)
    ones = torch.ones(1, width)
    factors = low(lambda: events_native.read(nothing_P, ones, ones[0], nothing_P, None, None, probability, rows))
    return (factors != 0).double() / (1 - probability)


@pytest.mark.parametrize("drop", [0.0, 0.25])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("places", [False, True])
@pytest.mark.parametrize("width", [1, 5, 16, 36, 64, 200])
def test_the_formula_and_its_gradients(width: int, places: bool, norm: bool, drop: float) -> None:
    torch.manual_seed(width)
    items_P, places_P = torch.randint(1, ITEMS, (131,)), torch.randint(0, PLACES, (131,))
    items_P[torch.rand(131) < 0.2] = -1
    table_VD, mask_D, table_TD, layer = parameters(width, places, norm)
    factors_PD = fates(131, width, drop)
    torch.manual_seed(7)
    got = low(lambda: events_native.read(items_P, table_VD, mask_D, places_P, table_TD, layer, drop, 140))
    assert got.shape == (140, width)
    assert got.dtype == BF16
    assert not got[131:].any()

    leaves = [table_VD, mask_D, *([table_TD] if places else []), *([layer.weight, layer.bias] if layer else [])]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    sums_PD = torch.where((items_P < 0)[:, None], exact[1], exact[0][items_P.clamp(min=0)])
    if places:
        sums_PD = sums_PD + exact[2][places_P]
    if layer is not None:
        sums_PD = F.layer_norm(sums_PD, (width,), exact[-2], exact[-1], layer.eps)
    expected = sums_PD * factors_PD
    torch.testing.assert_close(got[:131].double(), expected.detach(), rtol=2**-7, atol=2**-7)

    of_PD = torch.randn(140, width).to(BF16)
    found = torch.autograd.grad(got, leaves, of_PD)
    right = torch.autograd.grad(expected, exact, of_PD[:131].double())
    for mine, its in zip(found, right, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine.double(), its, rtol=1e-3, atol=1e-3)


def test_what_is_dropped_is_drawn_anew_and_keeps_the_mean() -> None:
    table, nothing_P = torch.ones(1, 64), torch.zeros(5_000, dtype=torch.int64)
    drawn = [
        low(lambda: events_native.read(nothing_P, table, table[0], nothing_P, None, None, 0.25, 5_000)).double()
        for _ in range(2)
    ]
    for kept_PD in drawn:
        assert set(kept_PD.unique().tolist()) == {0.0, float(torch.tensor(4 / 3).to(BF16))}
        assert ((kept_PD == 0).double().mean(0) - 0.25).abs().max() < 0.031  # five standard errors, at every channel
    assert not torch.equal(*drawn)


def test_threads_change_nothing() -> None:
    torch.manual_seed(0)
    items_P, places_P = torch.randint(1, ITEMS, (1_003,)), torch.randint(0, PLACES, (1_003,))
    table_VD, mask_D, table_TD, layer = parameters(72, True, True)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            torch.manual_seed(7)
            made = low(lambda: events_native.read(items_P, table_VD, mask_D, places_P, table_TD, layer, 0.3, 1_003))
            found.append([made, *torch.autograd.grad(made.float().square().sum(), [table_VD, table_TD])])
    finally:
        torch.set_num_threads(before)
    for mine, *others in zip(*found, strict=True):
        assert all(torch.equal(mine, other) for other in others)


def test_where_the_pass_is_used() -> None:
    table = torch.zeros(3, 4)
    assert not events_native.in_c(table)  # fp32
    with torch.autocast("cpu", BF16):
        assert events_native.in_c(table)
        assert not events_native.in_c(table.to("meta"))
        assert not events_native.in_c(table.to(BF16))
        assert not events_native.in_c(torch.zeros(1, WIDEST + 1))
    with torch.autocast("cpu", torch.float16):
        assert not events_native.in_c(table)


def test_no_events_at_all() -> None:
    nothing_P = torch.zeros(0, dtype=torch.int64)
    table_VD, mask_D, table_TD, layer = parameters(8, True, True)
    made = low(lambda: events_native.read(nothing_P, table_VD, mask_D, nothing_P, table_TD, layer, 0.5, 1))
    assert torch.equal(made, torch.zeros(1, 8, dtype=BF16))
    assert layer is not None
    for gradient in torch.autograd.grad(made.sum(), [table_VD, mask_D, layer.weight]):
        assert not gradient.any()
