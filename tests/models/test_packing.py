"""Rows without their padding, one behind another."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from seqrec_cli.data.sizes import PACKED_STEP
from seqrec_cli.models.parts import native
from seqrec_cli.models.parts.attention import MultiHeadAttention
from seqrec_cli.models.parts.heads_native import heads_of, joined
from seqrec_cli.models.parts.packing import Packing
from seqrec_cli.models.parts.positions import RelativeBias, Rotary

in_c = pytest.mark.skipif(native.compiler() is None, reason="no C compiler here")
BF16 = torch.bfloat16
LENGTHS_B = torch.tensor([20, 1, 0, 7, 19, 20])
MASK_BL = torch.arange(20) < LENGTHS_B[:, None]
COUNT = int(LENGTHS_B.sum())


def leaf(*shape: int) -> Tensor:
    return torch.randn(*shape).to(BF16).requires_grad_()


def close(got: Sequence[Tensor], expected: Sequence[Tensor], ulps: float) -> None:
    for mine, its in zip(got, expected, strict=True):
        atol = ulps * 2**-8 * max(its.abs().max().item(), 2**-8)
        torch.testing.assert_close(mine.double(), its.double(), rtol=ulps * 2**-8, atol=atol)


@pytest.mark.parametrize("padded", [False, True])
def test_what_is_packed(padded: bool) -> None:
    packing = Packing.of(LENGTHS_B, 20, padded)
    assert packing.size == (PACKED_STEP if padded else COUNT)
    x_BLD = torch.randn(6, 20, 3, requires_grad=True)
    packed_PD = packing.pack(x_BLD)
    assert torch.equal(packed_PD[:COUNT], x_BLD[MASK_BL])
    assert packed_PD.shape == (packing.size, 3)
    assert not packed_PD[COUNT:].any()
    of_PD = torch.randn_like(packed_PD)
    (of_x_BLD,) = torch.autograd.grad(packed_PD, x_BLD, of_PD)
    assert torch.equal(of_x_BLD[MASK_BL], of_PD[:COUNT])
    assert not of_x_BLD[~MASK_BL].any()


def test_where_places_are_packed() -> None:
    packing, places_BL = Packing.of(LENGTHS_B, 20, True), torch.arange(6 * 20).view(6, 20)
    assert torch.equal(packing.at(places_BL)[MASK_BL], torch.arange(COUNT))
    assert 0 <= packing.at(places_BL).min() <= packing.at(places_BL).max() < packing.size
    assert torch.equal(packing.places(), places_BL[MASK_BL])
    empty = Packing.of(torch.zeros(2, dtype=torch.int64), 4, False)
    assert empty.pack(torch.ones(2, 4, 3)).shape == (1, 3)  # one row, of zeros
    assert torch.equal(empty.at(torch.arange(8)), torch.zeros(8, dtype=torch.int64))


@in_c
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(("heads", "width"), [(2, 5), (4, 16), (1, 50)])
def test_heads_of_packed_rows(heads: int, width: int, parts: int, padded: bool) -> None:
    torch.manual_seed(width)
    packing, channels = Packing.of(LENGTHS_B, 20, padded), parts * heads * width
    layer = nn.Linear(channels, channels)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(channels))
    layer.weight.requires_grad_(False)
    x_PM, of = leaf(packing.size, channels), torch.randn(parts, 6, heads, 20, width).to(BF16)
    x_BLM = torch.zeros(6, 20, channels, dtype=torch.float64)
    x_BLM[MASK_BL] = x_PM[:COUNT].detach().double()
    bias = layer.bias.detach().double().requires_grad_()
    x_BLM.requires_grad_()
    expected = (
        (x_BLM + bias).masked_fill(~MASK_BL[..., None], 0).view(6, 20, parts, heads, width).permute(2, 0, 3, 1, 4)
    )
    with torch.autocast("cpu", BF16):
        got = heads_of((layer,), x_PM, heads, parts, packing)
    close(got, list(expected), ulps=1)
    of_x_PM, of_bias = torch.autograd.grad(got, [x_PM, layer.bias], tuple(of))
    of_x_BLM, its_bias = torch.autograd.grad(expected, [x_BLM, bias], of.double())
    close([of_x_PM[:COUNT], of_bias], [of_x_BLM[MASK_BL], its_bias], ulps=1)
    assert not of_x_PM[COUNT:].any()

    alone_BHLd = leaf(6, heads, 20, width)
    together_PD = joined(alone_BHLd, packing)
    assert torch.equal(together_PD[:COUNT], alone_BHLd.transpose(1, 2).flatten(2)[MASK_BL])
    assert not together_PD[COUNT:].any()
    of_PD = torch.randn_like(together_PD)
    (back_BHLd,) = torch.autograd.grad(together_PD, alone_BHLd, of_PD)
    back_BLHd = back_BHLd.transpose(1, 2)
    assert torch.equal(back_BLHd[MASK_BL].flatten(1), of_PD[:COUNT])
    assert not back_BLHd[~MASK_BL].any()


@in_c
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("places", ["none", "rotary", "relative"])
def test_attention_over_packed_rows(places: str, causal: bool) -> None:
    torch.manual_seed(5)
    within = {"none": None, "rotary": Rotary(8, 20), "relative": RelativeBias(2, 20)}[places]
    layer, packing = MultiHeadAttention(16, 2, 0.0, places=within), Packing.of(LENGTHS_B, 20, True)
    x_BLD, of_BLD = leaf(6, 20, 16), torch.randn(6, 20, 16).to(BF16)
    of_PD = packing.pack(of_BLD)
    with torch.autocast("cpu", BF16):
        assert layer.packs(x_BLD)
        padded_BLD = layer(x_BLD, x_BLD, causal, MASK_BL)
        x_PD = packing.pack(x_BLD)
        packed_PD = layer.out(layer.look(x_PD, x_PD, causal, MASK_BL, packing=packing))
    close([packed_PD[:COUNT]], [padded_BLD[MASK_BL]], ulps=1)
    leaves = [x_BLD, *layer.parameters()]
    of_BLD = of_BLD.masked_fill(~MASK_BL[..., None], 0)
    close(torch.autograd.grad(packed_PD, leaves, of_PD), torch.autograd.grad(padded_BLD, leaves, of_BLD), ulps=4)
    assert not MultiHeadAttention(16, 2, 0.0).packs(x_BLD.float())  # fp32 has no such pass
