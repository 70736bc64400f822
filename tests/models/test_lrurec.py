"""LRURec: the scan against a loop, the unit against complex arithmetic, and its block by hand."""

import pytest
import torch
import toy
from pydantic import ValidationError
from torch import nn

from seqrec_cli.kernels.linear_scan import op
from seqrec_cli.kernels.linear_scan.op import _linear_scan as linear_scan
from seqrec_cli.kernels.linear_scan.reference import scan_of_pairs
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.layers.linear_recurrence import LinearRecurrence


def numbers(L: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(L)
    x_LBN = torch.randn(L, 3, 5, dtype=torch.complex128, generator=generator)
    radius, angle = torch.rand(2, 5, dtype=torch.float64, generator=generator)
    return x_LBN, torch.polar(radius, 6 * angle)


def loop(x_LBN: torch.Tensor, decay_N: torch.Tensor) -> torch.Tensor:
    states, state = [], torch.zeros_like(x_LBN[0])
    for x_BN in x_LBN:
        state = x_BN + decay_N * state
        states.append(state)
    return torch.stack(states)


@pytest.mark.parametrize("L", [1, 2, 7, 8, 13])
def test_every_form_of_the_scan_is_the_loop(L: int) -> None:
    x_LBN, decay_N = numbers(L)
    expected = loop(x_LBN, decay_N)
    torch.testing.assert_close(linear_scan(x_LBN, decay_N), expected)
    torch.testing.assert_close(op._by_halves(x_LBN, decay_N), expected)
    pairs = scan_of_pairs(torch.view_as_real(x_LBN), torch.view_as_real(decay_N), 13)
    torch.testing.assert_close(torch.view_as_complex(pairs), expected)


@pytest.mark.parametrize("L", [1, 9])
def test_gradients_of_the_scan_are_those_of_the_loop(L: int) -> None:
    x_LBN, decay_N = (y.requires_grad_() for y in numbers(L))
    weight = torch.randn(L, 3, 5, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(
        torch.autograd.grad((linear_scan(x_LBN, decay_N) * weight).sum().abs(), (x_LBN, decay_N)),
        torch.autograd.grad((loop(x_LBN, decay_N) * weight).sum().abs(), (x_LBN, decay_N)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
    torch.library.opcheck(linear_scan, (x_LBN.detach(), decay_N.detach()))


def test_decays_start_on_the_ring_and_states_keep_their_variance() -> None:
    torch.manual_seed(0)
    unit = LinearRecurrence(4, 4000, (0.8, 0.99), longest=12)
    radius_N = (-unit.nu_N.exp()).exp()
    assert radius_N.min() >= 0.8
    assert radius_N.max() <= 0.99
    share = (radius_N < 0.9).float().mean().item()  # evenly over the ring's area
    assert share == pytest.approx((0.9**2 - 0.8**2) / (0.99**2 - 0.8**2), abs=0.03)
    torch.testing.assert_close(unit.gamma_N.exp().square(), 1 - radius_N.square(), rtol=1e-4, atol=1e-5)
    assert unit.theta_N.exp().max().item() == pytest.approx(2 * torch.pi, rel=0.01)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_network_by_hand(norm: str) -> None:
    """Complex matrices, a loop over time, and norms where their names say."""
    model = toy.toy_model("lrurec", norm=norm, blocks=1, states=6, temperature=None).eval()
    assert isinstance(model, ItemEncoder)
    batch = toy.rows(toy.toy_batch(), slice(7, 8))
    weight = {name.removeprefix("blocks.0."): p for name, p in model.named_parameters()}
    layer_norm = nn.LayerNorm(16, elementwise_affine=False)
    linear = lambda name, y: y @ weight[f"{name}.weight"].T + weight[f"{name}.bias"]  # noqa: E731
    decay = torch.exp(torch.complex(-weight["unit.nu_N"].exp(), weight["unit.theta_N"].exp()))
    into, into_bias = weight["unit.project.weight"], weight["unit.project.bias"]
    x = weight["items.weight"][batch.items_BL[0]]
    x = layer_norm(x) if norm == "post" else x
    inner = x if norm == "post" else layer_norm(x)
    driven = inner.to(torch.complex64) @ torch.complex(into[::2], into[1::2]).T + torch.complex(
        into_bias[::2], into_bias[1::2]
    )
    states = loop((driven * weight["unit.gamma_N"].exp())[:, None], decay)[:, 0]
    out = torch.complex(weight["unit.out.weight"][:, ::2], -weight["unit.out.weight"][:, 1::2])
    x = x + (states @ out.T).real + weight["unit.out.bias"]
    x = layer_norm(x) if norm == "post" else x
    inner = x if norm == "post" else layer_norm(x)
    x = layer_norm(x + linear("feed_forward.down", nn.functional.gelu(linear("feed_forward.up", inner))))
    torch.testing.assert_close(model.encode(batch)[0], x, rtol=1e-3, atol=1e-4)


def test_a_ring_outside_the_circle_is_refused() -> None:
    for ring in ([0.9, 0.8], [0.5, 1.0]):
        with pytest.raises(ValidationError, match=r"model\.ring=.*: two decays between 0 and 1, the smaller one first"):
            toy.small_config("lrurec", ring=ring)
