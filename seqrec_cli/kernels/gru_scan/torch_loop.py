"""The recurrence and its backward pass as a loop of torch's operators: for GPUs, other number formats than fp32, and
where the C code does not run.

Legend: L steps, B rows, C candidates, N = B x C pairs, H hidden width, G = 3H (of gates alone 2H).
"""

import torch
from torch import Tensor

from seqrec_cli.kernels.gru_scan.reference import KEPT, REPLACED


class _Steps:
    """The loop over time: its buffers, so that the loop allocates nothing, and a step.

    tanh(x) is made as 2 sigmoid(2x) - 1: on a CPU torch's tanh takes eight times as long as its sigmoid.
    """

    def __init__(self, rows: int, candidates: int, recurrent_GH: Tensor, low: torch.dtype | None) -> None:
        self.rows, self.candidates, self.low = rows, candidates, low
        self.N, self.H = rows * candidates, recurrent_GH.shape[1]
        weights_HG = recurrent_GH.T if low is None else recurrent_GH.T.to(low)
        self.gates_weights, self.new_weights = (
            part.contiguous() for part in weights_HG.split([2 * self.H, self.H], dim=1)
        )
        self.minus_one = recurrent_GH.new_full((), -1.0)
        if low is not None:
            device = recurrent_GH.device
            self.low_state_NH, self.low_new_NH, self.low_gates_NG = (
                torch.empty((self.N, width * self.H), dtype=low, device=device) for width in (1, 1, 2)
            )

    def by_row(self, x: Tensor) -> Tensor:
        """[N, ...] -> [B, C, ...]."""
        return x.view(self.rows, self.candidates, *x.shape[1:])

    def products(self, state_NH: Tensor, gates_NG: Tensor | None, new_NH: Tensor) -> None:
        """U_r h and U_u h into `gates_NG`, U_n h into `new_NH`."""
        if self.low is None:
            torch.mm(state_NH, self.new_weights, out=new_NH)
            if gates_NG is not None:
                torch.mm(state_NH, self.gates_weights, out=gates_NG)
            return
        self.low_state_NH.copy_(state_NH)
        new_NH.copy_(torch.mm(self.low_state_NH, self.new_weights, out=self.low_new_NH))
        if gates_NG is not None:
            gates_NG.copy_(torch.mm(self.low_state_NH, self.gates_weights, out=self.low_gates_NG))

    def step(self, state_NH: Tensor, inputs_BG: Tensor, gates_NG: Tensor, new_NH: Tensor) -> None:
        """Fill `gates_NG` with r and u, and `new_NH` with n."""
        H = self.H
        self.products(state_NH, gates_NG, new_NH)
        gates_BCG, new_BCH, inputs_B1G = self.by_row(gates_NG), self.by_row(new_NH), inputs_BG[:, None]
        gates_BCG.add_(inputs_B1G[..., H:]).sigmoid_()
        torch.addcmul(inputs_B1G[..., :H], gates_BCG[..., :H], new_BCH, out=new_BCH)
        new_NH.mul_(2).sigmoid_()
        torch.add(self.minus_one, new_NH, alpha=2, out=new_NH)


def last(inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, gate: int, low: torch.dtype | None) -> Tensor:
    """The last states [B, C, H]."""
    (L, B, C), H = scales_LBC.shape, recurrent_GH.shape[1]
    inputs_LBG, steps = inputs_LBG.to(recurrent_GH.dtype), _Steps(B, C, recurrent_GH, low)
    state_NH, gates_NG, new_NH = (recurrent_GH.new_zeros((B * C, width)) for width in (H, 2 * H, H))
    for t in range(L):
        steps.step(state_NH, inputs_LBG[t], gates_NG, new_NH)
        state_NH.lerp_(new_NH, _share(gate, scales_LBC[t].reshape(-1, 1), gates_NG[:, H:]))
    return state_NH.view(B, C, H)


def states(
    inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, gate: int, keep: bool, low: torch.dtype | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The last states [B, C, H], all states [L, B, C, H], and with `keep` the gates [L, N, 2H] and n [L, N, H]."""
    (L, B, C), H = scales_LBC.shape, recurrent_GH.shape[1]
    inputs_LBG, kept = inputs_LBG.to(recurrent_GH.dtype), L if keep else 0
    steps = _Steps(B, C, recurrent_GH, low)
    states_LNH = recurrent_GH.new_empty((L, B * C, H))
    gates_LNG, new_LNH = (recurrent_GH.new_empty((max(kept, 1), B * C, width)) for width in (2 * H, H))
    state_NH = recurrent_GH.new_zeros((B * C, H))
    for t in range(L):
        gates_NG, new_NH = (values_LN[t if keep else 0] for values_LN in (gates_LNG, new_LNH))
        steps.step(state_NH, inputs_LBG[t], gates_NG, new_NH)
        share_NH = _share(gate, scales_LBC[t].reshape(-1, 1), gates_NG[:, H:])
        state_NH = torch.lerp(state_NH, new_NH, share_NH, out=states_LNH[t])
    return state_NH.view(B, C, H).clone(), states_LNH.view(L, B, C, H), gates_LNG[:kept], new_LNH[:kept]


def backward(
    grad_last_BCH: Tensor | None,
    grad_states_LBCH: Tensor | None,
    scales_LBC: Tensor,
    recurrent_GH: Tensor,
    states_LBCH: Tensor,
    gates_LNG: Tensor,
    new_LNH: Tensor,
    gate: int,
    low: torch.dtype | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the inputs, the scales and the recurrent weights, from those of the states."""
    (L, B, C), H = scales_LBC.shape, recurrent_GH.shape[1]
    steps, states_LNH = _Steps(B, C, recurrent_GH, low), states_LBCH.flatten(1, 2)
    grad_inputs_LBG, grad_scales_LN = recurrent_GH.new_empty((L, B, 3 * H)), recurrent_GH.new_empty((L, B * C))
    grad_recurrent_GH, weights_GH = (
        torch.zeros_like(recurrent_GH),
        recurrent_GH if low is None else recurrent_GH.to(low),
    )
    # Gradients before the activations in the order n, r, u, m = U_n h: the first three are the inputs', the last three
    # those of the products.
    grad_sums_N4H = recurrent_GH.new_zeros((B * C, 4 * H))
    grad_new_NH, grad_reset_NH, grad_update_NH, grad_product_NH = grad_sums_N4H.chunk(4, dim=1)
    grad_state_NH, product_NH, before_NH = (recurrent_GH.new_zeros((B * C, H)) for _ in range(3))
    if grad_last_BCH is not None:
        grad_state_NH.copy_(grad_last_BCH.reshape(-1, H))
    for t in range(L - 1, -1, -1):
        if grad_states_LBCH is not None:
            grad_state_NH += grad_states_LBCH[t].reshape(-1, H)
        state_NH = states_LNH[t - 1] if t else before_NH
        (reset_NH, update_NH), new_NH = gates_LNG[t].chunk(2, dim=1), new_LNH[t]
        scale_N1 = scales_LBC[t].reshape(-1, 1)
        steps.products(state_NH, None, product_NH)
        grad_share_NH = (new_NH - state_NH).mul_(grad_state_NH)
        torch.mul(grad_state_NH, _share(gate, scale_N1, update_NH), out=grad_new_NH)
        if gate == REPLACED:
            grad_scales_LN[t] = grad_share_NH.sum(1)
        elif gate == KEPT:
            free_N1 = scale_N1 >= 0
            grad_scales_LN[t] = (grad_share_NH * (1 - update_NH) * free_N1).sum(1)
            _sigmoid_backward(grad_share_NH.mul_((1 - scale_N1) * free_N1), update_NH, grad_update_NH)
        else:
            grad_scales_LN[t] = (grad_share_NH * update_NH).sum(1)
            _sigmoid_backward(grad_share_NH.mul_(scale_N1), update_NH, grad_update_NH)
        grad_state_NH -= grad_new_NH
        torch.ops.aten.tanh_backward.grad_input(grad_new_NH, new_NH, grad_input=grad_new_NH)
        _sigmoid_backward(grad_new_NH * product_NH, reset_NH, grad_reset_NH)
        torch.mul(grad_new_NH, reset_NH, out=grad_product_NH)
        torch.sum(steps.by_row(grad_sums_N4H[:, : 3 * H]), 1, out=grad_inputs_LBG[t])
        grad_products_NG = grad_sums_N4H[:, H:]
        if low is None:
            grad_state_NH.addmm_(grad_products_NG, weights_GH)
            grad_recurrent_GH.addmm_(grad_products_NG.T, state_NH)
        else:
            grad_products_NG = grad_products_NG.to(low)
            grad_state_NH += grad_products_NG @ weights_GH
            grad_recurrent_GH += grad_products_NG.T @ state_NH.to(low)
    return grad_inputs_LBG, grad_scales_LN.view(L, B, C), grad_recurrent_GH


def _share(gate: int, scale_N1: Tensor, update_NH: Tensor) -> Tensor:
    """The share [N, H] of the new state in the next one."""
    if gate == REPLACED:
        return scale_N1.expand_as(update_NH)
    if gate == KEPT:
        return torch.lerp(update_NH, update_NH.new_ones(()), scale_N1).masked_fill(scale_N1 < 0, 0.0)
    return update_NH * scale_N1


def _sigmoid_backward(gradient: Tensor, value: Tensor, out: Tensor) -> None:
    torch.ops.aten.sigmoid_backward.grad_input(gradient, value, grad_input=out)
