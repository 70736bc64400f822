"""A linear recurrence with a diagonal of complex decays, h_t = x_t + lambda h_(t-1), over whole sequences.

On a CPU it runs step by step, one pass over memory with all rows at once: on one core 1.5 ms where recursive halving
(log2 L rounds, each over half of all numbers) takes 8 and an FFT 31 (64 rows, L 200, N 128). On other devices, where
each step costs a launch, it is halving. Both are one operator whose backward pass is the same recurrence run backwards,
so nothing but the states is kept.

Legend: L steps, B rows, N complex numbers of a state.
"""

from typing import Any

import torch
from torch import Tensor

from seqrec_cli.kernels.linear_scan.reference import examples, reference, scan_of_pairs
from seqrec_cli.kernels.registry import Kernel, operator


def linear_scan(x_LBN2: Tensor, decay_N2: Tensor, longest: int) -> Tensor:
    """All states [L, B, N, 2] of inputs and decays as pairs (real, imaginary); L is at most `longest`."""
    if torch.compiler.is_exporting():  # exported programs hold torch's own operators alone
        return scan_of_pairs(x_LBN2, decay_N2, longest)
    return torch.view_as_real(_linear_scan(torch.view_as_complex(x_LBN2), torch.view_as_complex(decay_N2)))


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


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(output, inputs[1])


def _backward(ctx: Any, grad_LBN: Tensor) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = _linear_scan_backward(grad_LBN.contiguous(), *ctx.saved_tensors)
    return found


@operator(lambda x_LBN, decay_N: torch.empty_like(x_LBN), _backward, _save, device="default")
def _linear_scan(x_LBN: Tensor, decay_N: Tensor) -> Tensor:
    """All states [L, B, N], complex."""
    return _by_step(x_LBN, decay_N) if x_LBN.device.type == "cpu" else _by_halves(x_LBN, decay_N).clone()


@operator(lambda grad, states, decay_N: (torch.empty_like(grad), torch.empty_like(decay_N)), device="default")
def _linear_scan_backward(grad_LBN: Tensor, states_LBN: Tensor, decay_N: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the inputs and of the decays."""
    back_N = decay_N.conj_physical()
    if grad_LBN.device.type != "cpu":
        grad_x_LBN = _by_halves(grad_LBN.flip(0), back_N).flip(0)
        return grad_x_LBN, (states_LBN[:-1].conj() * grad_x_LBN[1:]).sum((0, 1))
    grad_x_LBN = torch.empty_like(grad_LBN)
    grad_x_LBN[-1:] = grad_LBN[-1:]
    grad_decay_BN, before_BN = (torch.zeros_like(states_LBN[0]) for _ in range(2))
    for t in range(len(grad_LBN) - 1, 0, -1):
        torch.conj_physical(states_LBN[t - 1], out=before_BN)
        grad_decay_BN.addcmul_(before_BN, grad_x_LBN[t])
        torch.addcmul(grad_LBN[t - 1], grad_x_LBN[t], back_N, out=grad_x_LBN[t - 1])
    return grad_x_LBN, grad_decay_BN.sum(0)


KERNELS = (Kernel(_linear_scan, reference, examples, formats=(torch.complex64,), compiled=False),)
