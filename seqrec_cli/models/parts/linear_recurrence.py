"""A linear recurrence with a diagonal of complex decays, h_t = x_t + lambda h_(t-1), over whole sequences.

On a CPU it runs step by step, one pass over memory with all rows at once: on one core 1.5 ms where recursive halving
(log2 L rounds, each over half of all numbers) takes 8 and an FFT 31 (64 rows, L 200, N 128). On other devices, where
each step costs a launch, it is halving. Both are one operator whose backward pass is the same recurrence run backwards,
so nothing but the states is kept.

Legend: L steps, B rows, N complex numbers of a state.
"""

from typing import Any

import torch
from torch import Tensor, nn


def _by_step(x_LBN: Tensor, decay_N: Tensor) -> Tensor:
    states_LBN = torch.empty_like(x_LBN)
    states_LBN[:1] = x_LBN[:1]
    for t in range(1, len(x_LBN)):
        torch.addcmul(x_LBN[t], states_LBN[t - 1], decay_N, out=states_LBN[t])
    return states_LBN


def _by_halves(x_LBN: Tensor, decay_N: Tensor) -> Tensor:
    """Pairs of neighbouring runs become one run twice as long: the last state of the first decays into the second."""
    L, B, N = x_LBN.shape
    padded = 1 << max(L - 1, 0).bit_length()
    states_LBN = torch.cat([x_LBN, x_LBN.new_zeros(padded - L, B, N)])
    decays_S1N, run = decay_N[None, None], 1
    while run < padded:
        pairs = states_LBN.view(padded // (2 * run), 2 * run, B, N)
        pairs[:, run:].addcmul_(pairs[:, run - 1 : run], decays_S1N)
        decays_S1N = torch.cat([decays_S1N, decays_S1N * decays_S1N[-1:]])
        run *= 2
    return states_LBN[:L]


@torch.library.custom_op("seqrec::linear_scan", mutates_args=())
def linear_scan(x_LBN: Tensor, decay_N: Tensor) -> Tensor:
    """All states [L, B, N], complex."""
    return _by_step(x_LBN, decay_N) if x_LBN.device.type == "cpu" else _by_halves(x_LBN, decay_N).clone()


@torch.library.custom_op("seqrec::linear_scan_backward", mutates_args=())
def linear_scan_backward(gradient_LBN: Tensor, states_LBN: Tensor, decay_N: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the inputs and of the decays."""
    back_N = decay_N.conj_physical()
    if gradient_LBN.device.type != "cpu":
        of_inputs_LBN = _by_halves(gradient_LBN.flip(0), back_N).flip(0)
        return of_inputs_LBN, (states_LBN[:-1].conj() * of_inputs_LBN[1:]).sum((0, 1))
    of_inputs_LBN = torch.empty_like(gradient_LBN)
    of_inputs_LBN[-1:] = gradient_LBN[-1:]
    of_decay_BN, before_BN = (torch.zeros_like(states_LBN[0]) for _ in range(2))
    for t in range(len(gradient_LBN) - 1, 0, -1):
        torch.conj_physical(states_LBN[t - 1], out=before_BN)
        of_decay_BN.addcmul_(before_BN, of_inputs_LBN[t])
        torch.addcmul(gradient_LBN[t - 1], of_inputs_LBN[t], back_N, out=of_inputs_LBN[t - 1])
    return of_inputs_LBN, of_decay_BN.sum(0)


@linear_scan.register_fake
def _(x_LBN: Tensor, decay_N: Tensor) -> Tensor:
    return torch.empty_like(x_LBN)


@linear_scan_backward.register_fake
def _(gradient_LBN: Tensor, states_LBN: Tensor, decay_N: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(gradient_LBN), torch.empty_like(decay_N)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(output, inputs[1])


def _backward(ctx: Any, gradient_LBN: Tensor) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = linear_scan_backward(gradient_LBN.contiguous(), *ctx.saved_tensors)
    return found


linear_scan.register_autograd(_backward, setup_context=_keep)


def scan_of_pairs(x_LBN2: Tensor, decay_N2: Tensor, longest: int) -> Tensor:
    """The same by plain operations on pairs (real, imaginary), any L up to `longest`: for exported programs, which
    hold torch's own operators alone and whose loops have a fixed length."""
    run = 1
    while run < longest:
        earlier_LBN2 = nn.functional.pad(x_LBN2, (0, 0, 0, 0, 0, 0, run, 0))[: x_LBN2.shape[0]]
        x_LBN2 = x_LBN2 + _times(earlier_LBN2, decay_N2)
        decay_N2, run = _times(decay_N2, decay_N2), 2 * run
    return x_LBN2


def _times(a: Tensor, b: Tensor) -> Tensor:
    real, imaginary = a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1], a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0]
    return torch.stack([real, imaginary], dim=-1)


class LinearRecurrence(nn.Module):
    """A linear recurrent unit between two projections, [L, B, D] -> [L, B, D] (Orvieto et al. 2023, arXiv 2303.06349).

    lambda = exp(-exp(nu) + i exp(theta)) lies inside the unit circle, at first evenly on the ring from `ring[0]` to
    `ring[1]`; inputs are scaled by exp(gamma), at first sqrt(1 - |lambda|^2), so that states keep their variance.
    """

    def __init__(self, dim: int, states: int, ring: tuple[float, float], longest: int) -> None:
        super().__init__()
        self.longest = longest
        # A complex matrix applied to real numbers is a real one with two rows a state, real and imaginary in turn; the
        # real part of another, applied to states, is a real one with two columns a state.
        self.project, self.out = nn.Linear(dim, 2 * states), nn.Linear(2 * states, dim)
        inner, outer = ring
        squares_N = torch.rand(states) * (outer**2 - inner**2) + inner**2
        self.nu_N = nn.Parameter((-0.5 * squares_N.log()).log())
        self.theta_N = nn.Parameter((torch.rand(states) * 2 * torch.pi).log())
        self.gamma_N = nn.Parameter(0.5 * (1 - squares_N).log())

    def states(self, x_LBD: Tensor) -> Tensor:
        """States after every step in fp32, [L, B, 2N] with real and imaginary parts in turn."""
        with torch.autocast(x_LBD.device.type, enabled=False):
            radius_N, angle_N = (-self.nu_N.exp()).exp(), self.theta_N.exp()
            decay_N2 = torch.stack([radius_N * angle_N.cos(), radius_N * angle_N.sin()], dim=-1)
            scale_N = self.gamma_N.exp().repeat_interleave(2)  # of the projection's rows: cheaper than of its outputs
            weight, bias = self.project.weight * scale_N[:, None], self.project.bias * scale_N
        x_LBN2 = nn.functional.linear(x_LBD, weight, bias).float().unflatten(-1, (-1, 2))
        if torch.compiler.is_exporting():
            return scan_of_pairs(x_LBN2, decay_N2, self.longest).flatten(-2)
        states_LBN = linear_scan(torch.view_as_complex(x_LBN2), torch.view_as_complex(decay_N2))
        return torch.view_as_real(states_LBN).flatten(-2)
