"""Rows without their padding, one behind another."""

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from seqrec_cli import kernels
from seqrec_cli.kernels.build import compiler
from seqrec_cli.kernels.split_heads.op import pack_rows
from seqrec_cli.kernels.split_heads.packing import Packing
from seqrec_cli.models.layers.attention import MultiHeadAttention
from seqrec_cli.models.layers.positions import RelativeBias, Rotary

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


@pytest.fixture(autouse=True)
def switched_back() -> Iterator[None]:
    yield
    kernels.use(True)


@pytest.mark.parametrize("step", [1, 256])
def test_what_is_packed(step: int) -> None:
    packing = Packing.of(LENGTHS_B, 20, step)
    assert packing.size == (COUNT if step == 1 else step)
    x_BLD = torch.randn(6, 20, 3, requires_grad=True)
    packed_PD = packing.pack(x_BLD)
    assert torch.equal(packed_PD[:COUNT], x_BLD[MASK_BL])
    assert packed_PD.shape == (packing.size, 3)
    assert not packed_PD[COUNT:].any()
    assert torch.equal(packing.unpack(packed_PD), x_BLD * MASK_BL[..., None])
    of_PD = torch.randn_like(packed_PD)
    (of_x_BLD,) = torch.autograd.grad(packed_PD, x_BLD, of_PD)
    assert torch.equal(of_x_BLD[MASK_BL], of_PD[:COUNT])
    assert not of_x_BLD[~MASK_BL].any()


def test_where_positions_are_packed() -> None:
    packing, positions_BL = Packing.of(LENGTHS_B, 20, 256), torch.arange(6 * 20).view(6, 20)
    assert torch.equal(packing.index(positions_BL)[MASK_BL], torch.arange(COUNT))
    assert 0 <= packing.index(positions_BL).min() <= packing.index(positions_BL).max() < packing.size
    assert torch.equal(packing.positions(), positions_BL[MASK_BL])
    empty = Packing.of(torch.zeros(2, dtype=torch.int64), 4, 1)
    assert empty.pack(torch.ones(2, 4, 3)).shape == (1, 3)  # one row, of zeros
    assert torch.equal(empty.index(torch.arange(8)), torch.zeros(8, dtype=torch.int64))


@pytest.mark.parametrize("on", [pytest.param(True, marks=pytest.mark.skipif(compiler() is None, reason="no C")), False])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("positions", ["none", "rotary", "relative"])
def test_attention_over_packed_rows(positions: str, causal: bool, on: bool) -> None:
    kernels.use(on)
    torch.manual_seed(5)
    within = {"none": None, "rotary": Rotary(8, 20), "relative": RelativeBias(2, 20)}[positions]
    layer, packing = MultiHeadAttention(16, 2, 0.0, positions=within), Packing.of(LENGTHS_B, 20, 256)
    x_BLD, of_BLD = leaf(6, 20, 16), torch.randn(6, 20, 16).to(BF16)
    of_PD = packing.pack(of_BLD)
    with torch.autocast("cpu", BF16):
        assert (pack_rows(LENGTHS_B, 20, layer.query, x_BLD, step=lambda: 256) is not None) is on
        padded_BLD = layer(x_BLD, x_BLD, causal=causal, mask_BT=MASK_BL)
        x_PD = packing.pack(x_BLD)
        packed_PD = layer.out(layer.attend(x_PD, x_PD, causal=causal, mask_BT=MASK_BL, packing=packing))
    close([packed_PD[:COUNT]], [padded_BLD[MASK_BL]], ulps=1)
    leaves = [x_BLD, *layer.parameters()]
    of_BLD = of_BLD.masked_fill(~MASK_BL[..., None], 0)
    close(torch.autograd.grad(packed_PD, leaves, of_PD), torch.autograd.grad(padded_BLD, leaves, of_BLD), ulps=4)
    assert pack_rows(LENGTHS_B, 20, layer.query, x_BLD.float(), step=lambda: 256) is None  # not in fp32
