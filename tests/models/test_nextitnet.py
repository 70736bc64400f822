"""NextItNet against its formula, how far back a state sees, and what it refuses."""

import pytest
import torch
import toy
from pydantic import ValidationError
from torch import Tensor, nn

from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.nextitnet import Block, CausalConvolution


def small(**changes: object) -> ItemEncoder:
    model = toy.toy_model("nextitnet", **changes).eval()
    assert isinstance(model, ItemEncoder)
    with torch.no_grad():  # biases and norms that a formula could forget
        for name, parameter in model.named_parameters():
            if name.startswith("blocks") and (name.endswith("bias") or "norm" in name):
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) / 2)
    return model


def block(model: ItemEncoder) -> Block:
    first = model.blocks[0]  # type: ignore[index]
    assert isinstance(first, Block)
    return first


def slow_convolution(layer: CausalConvolution, x_LD: Tensor, kernel: int, dilation: int) -> Tensor:
    """Event by event and tap by tap; what would stand in front of the row is left out."""
    D = x_LD.shape[1]
    out = []
    for place in range(len(x_LD)):
        state_D = layer.taps.bias.clone()
        for k in range(kernel):
            source = place - (kernel - 1 - k) * dilation
            if source >= 0:
                state_D = state_D + layer.taps.weight[:, k * D : (k + 1) * D] @ x_LD[source]
        out.append(state_D)
    return torch.stack(out)


def normed(norm: nn.Module, x_LD: Tensor) -> Tensor:
    assert isinstance(norm, nn.LayerNorm)
    centred = x_LD - x_LD.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * norm.weight + norm.bias


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (3, 2), (2, 3)])
def test_a_block_is_the_formula(kernel: int, dilation: int) -> None:
    part = block(small(kernel=kernel, dilations=[dilation]))
    x_LD = torch.randn(11, 16, generator=torch.Generator().manual_seed(0))
    inner = normed(part.norm_near, slow_convolution(part.near, x_LD, kernel, dilation)).clamp(min=0)
    outer = normed(part.norm_far, slow_convolution(part.far, inner, kernel, 2 * dilation)).clamp(min=0)
    torch.testing.assert_close(part(x_LD[None])[0], x_LD + outer, rtol=1e-5, atol=1e-5)


def test_a_convolution_is_torchs() -> None:
    layer = block(small(dilations=[2])).near
    x_BLD = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(0))
    weight_DDK = layer.taps.weight.unflatten(1, (3, 16)).transpose(1, 2)
    padded = nn.functional.pad(x_BLD.transpose(1, 2), (4, 0))
    expected = nn.functional.conv1d(padded, weight_DDK, layer.taps.bias, dilation=2).transpose(1, 2)
    torch.testing.assert_close(layer(x_BLD), expected, rtol=1e-5, atol=1e-5)


def test_a_state_sees_its_receptive_field_and_nothing_else() -> None:
    """Dilations 1 and 2 with kernel 3: 1 + 2 (1 + 2) + 2 (2 + 4) = 19 events, the state's own the latest."""
    model, place = small(dilations=[1, 2], max_length=40), 30
    x_BLD = torch.randn(1, 40, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    batch = toy.rows(toy.toy_batch(), slice(0, 1))
    state_D = model.forward_layers(x_BLD, batch)[0, place]
    (gradient,) = torch.autograd.grad(state_D.square().sum(), x_BLD)
    seen = gradient[0].abs().sum(-1).nonzero()[:, 0].tolist()
    assert seen == list(range(place - 18, place + 1))


def test_what_it_cannot_do_is_refused() -> None:
    for positions in ("rotary", "relative"):
        with pytest.raises(ValidationError, match=f"positions={positions} acts on .* model=nextitnet has none; use ab"):
            toy.small_config("nextitnet", positions=positions)
    for changes in ({"dilations": []}, {"dilations": [1, 0]}, {"kernel": 1}):
        with pytest.raises(ValidationError, match=next(iter(changes))):
            toy.small_config("nextitnet", **changes)
