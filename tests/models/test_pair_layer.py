"""The activation unit's first layer, in C and in torch's operators, beside the layer over written-out pairs."""

import pytest
import torch
from torch import Tensor

from seqrec_cli.models.parts import native, pair_layer
from seqrec_cli.models.parts.pair_layer import pair_layer as layer

in_c = pytest.mark.skipif(native.compiler() is None, reason="no C compiler here")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-6}


@pytest.fixture(params=[pytest.param("c", marks=in_c), "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr(pair_layer, "_in_c", lambda *given: False)


def given(dtype: torch.dtype, F: int, M: int, shared: bool) -> list[Tensor]:
    """Events [5, 7, F], candidates and shifts [5, 3, ...] or [3, ...], and both weights [F, M]."""
    torch.manual_seed(F + M)
    rows = () if shared else (5,)
    made = [torch.randn(5, 7, F), torch.randn(*rows, 3, F), torch.randn(*rows, 3, M)]
    return [*(x.to(dtype) for x in made), torch.randn(F, M), torch.randn(F, M)]


def pair_by_pair(events: Tensor, candidates: Tensor, shifts: Tensor, of_events: Tensor, of_products: Tensor) -> Tensor:
    h, c = events[:, :, None], candidates.expand(events.shape[0], *candidates.shape[-2:])[:, None]
    return h @ of_events + (h * c) @ of_products + shifts.expand(events.shape[0], *shifts.shape[-2:])[:, None]


@in_c
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_where_a_compiler_is_the_passes_are_compiled(dtype: torch.dtype) -> None:
    events, candidates, shifts, *_ = given(dtype, 4, 5, shared=False)
    assert pair_layer._in_c(events, candidates, shifts)
    assert not pair_layer._in_c(events, candidates, shifts.double())


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("F", "M"), [(4, 5), (32, 64), (33, 36)])
def test_outputs_and_gradients_are_those_of_the_pairs(dtype: torch.dtype, F: int, M: int, shared: bool) -> None:
    leaves = [x.requires_grad_() for x in given(dtype, F, M, shared)]
    exact = [x.detach().double().requires_grad_() for x in leaves]
    got, expected = layer(*leaves), pair_by_pair(*exact)
    assert got.dtype == dtype
    of = torch.randn(5, 7, 3, M)
    results = [got, *torch.autograd.grad(got, leaves, of.to(dtype))]
    references = [expected, *torch.autograd.grad(expected, exact, of.double())]
    for mine, reference in zip(results, references, strict=True):
        assert mine.shape == reference.shape
        atol = TOLERANCE[dtype] * reference.abs().max().item()
        torch.testing.assert_close(mine.double(), reference, rtol=TOLERANCE[dtype], atol=atol)


@in_c
def test_its_operators_keep_torchs_contract() -> None:
    leaves = tuple(x.requires_grad_() for x in given(torch.float32, 4, 5, shared=False))
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    found = torch.library.opcheck(pair_layer.pairs, leaves, test_utils=checks)
    assert set(found.values()) == {"SUCCESS"}
