"""Gated recurrent units whose update gate is scaled from outside, over many sequences at once: DIEN's interest
extractor and its AUGRU and AGRU (Zhou et al. 2019, arXiv 1809.03672, eq. 2-5 and 9-13).

    r = sigmoid(x_r + U_r h)    u = sigmoid(x_u + U_u h)    n = tanh(x_n + r * (U_n h))    h' = h + a u * (n - h)

With `replace` a stands in place of a u. The inputs' projections x hold their biases and are made by one product for
all steps. a = 0 freezes a step (padding), a = 1 is a plain GRU. What has to go step by step is one loop over time, in
which every operation covers all pairs of row and candidate. It is an operator with a backward pass written by hand:
autograd's record of so many small steps costs more than the steps.

Legend: L steps, B rows, C candidates, N = B x C pairs, H hidden width. Inputs are [L, B, 3H] in the order n, r, u,
the same for all candidates of a row; the recurrent weights U are [3H, H] in the order r, u, n; scales are [L, B, C].
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula


class _Steps:
    """One pass over time: its buffers, so that the loop allocates nothing, and a step.

    tanh(x) is made as 2 sigmoid(2x) - 1: on a CPU torch's tanh takes eight times as long as its sigmoid.
    """

    def __init__(self, rows: int, candidates: int, recurrent_GH: Tensor, low: torch.dtype | None) -> None:
        self.rows, self.candidates, self.low = rows, candidates, low
        self.N, self.H = rows * candidates, recurrent_GH.shape[1]
        weights_HG = recurrent_GH.T if low is None else recurrent_GH.T.to(low)
        self.of_gates, self.of_new = (part.contiguous() for part in weights_HG.split([2 * self.H, self.H], dim=1))
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
            torch.mm(state_NH, self.of_new, out=new_NH)
            if gates_NG is not None:
                torch.mm(state_NH, self.of_gates, out=gates_NG)
            return
        self.low_state_NH.copy_(state_NH)
        new_NH.copy_(torch.mm(self.low_state_NH, self.of_new, out=self.low_new_NH))
        if gates_NG is not None:
            gates_NG.copy_(torch.mm(self.low_state_NH, self.of_gates, out=self.low_gates_NG))

    def step(self, state_NH: Tensor, inputs_BG: Tensor, gates_NG: Tensor, new_NH: Tensor) -> None:
        """Fill `gates_NG` with r and u, and `new_NH` with n."""
        H = self.H
        self.products(state_NH, gates_NG, new_NH)
        gates_BCG, new_BCH, inputs_B1G = self.by_row(gates_NG), self.by_row(new_NH), inputs_BG[:, None]
        gates_BCG.add_(inputs_B1G[..., H:]).sigmoid_()
        torch.addcmul(inputs_B1G[..., :H], gates_BCG[..., :H], new_BCH, out=new_BCH)
        new_NH.mul_(2).sigmoid_()
        torch.add(self.minus_one, new_NH, alpha=2, out=new_NH)


@torch.library.custom_op("seqrec::gru_last", mutates_args=())
def gru_last(
    inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, replace: bool, low: torch.dtype | None
) -> Tensor:
    """The last states [B, C, H], without what a backward pass needs. `low`: the number format of the products."""
    (L, B, C), H = scales_LBC.shape, recurrent_GH.shape[1]
    steps = _Steps(B, C, recurrent_GH, low)
    state_NH, gates_NG, new_NH = (recurrent_GH.new_zeros((B * C, width)) for width in (H, 2 * H, H))
    for t in range(L):
        steps.step(state_NH, inputs_LBG[t], gates_NG, new_NH)
        scale_N1 = scales_LBC[t].reshape(-1, 1)
        state_NH.lerp_(new_NH, scale_N1.expand_as(new_NH) if replace else gates_NG[:, H:].mul_(scale_N1))
    return state_NH.view(B, C, H)


@torch.library.custom_op("seqrec::gru_states", mutates_args=())
def gru_states(
    inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, replace: bool, low: torch.dtype | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The last states [B, C, H], all states [L, B, C, H], and for backward the gates [L, N, 2H] and n [L, N, H]."""
    (L, B, C), H = scales_LBC.shape, recurrent_GH.shape[1]
    steps = _Steps(B, C, recurrent_GH, low)
    states_LNH, gates_LNG, new_LNH = (recurrent_GH.new_empty((L, B * C, width)) for width in (H, 2 * H, H))
    state_NH = recurrent_GH.new_zeros((B * C, H))
    for t in range(L):
        steps.step(state_NH, inputs_LBG[t], gates_LNG[t], new_LNH[t])
        scale_N1 = scales_LBC[t].reshape(-1, 1)
        share_NH = scale_N1.expand_as(state_NH) if replace else gates_LNG[t, :, H:] * scale_N1
        state_NH = torch.lerp(state_NH, new_LNH[t], share_NH, out=states_LNH[t])
    return state_NH.view(B, C, H).clone(), states_LNH.view(L, B, C, H), gates_LNG, new_LNH


@torch.library.custom_op("seqrec::gru_backward", mutates_args=())
def gru_backward(
    of_last_BCH: Tensor | None,
    of_states_LBCH: Tensor | None,
    scales_LBC: Tensor,
    recurrent_GH: Tensor,
    states_LBCH: Tensor,
    gates_LNG: Tensor,
    new_LNH: Tensor,
    replace: bool,
    low: torch.dtype | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the inputs, the scales and the recurrent weights, from those of the states."""
    (L, B, C), H = scales_LBC.shape, recurrent_GH.shape[1]
    steps, states_LNH = _Steps(B, C, recurrent_GH, low), states_LBCH.flatten(1, 2)
    of_inputs_LBG, of_scales_LN = recurrent_GH.new_empty((L, B, 3 * H)), recurrent_GH.new_empty((L, B * C))
    of_recurrent_GH, weights_GH = torch.zeros_like(recurrent_GH), recurrent_GH if low is None else recurrent_GH.to(low)
    # Gradients before the activations in the order n, r, u, m = U_n h: the first three are the inputs', the last three
    # those of the products.
    of_sums_N4H = recurrent_GH.new_zeros((B * C, 4 * H))
    of_new_NH, of_reset_NH, of_update_NH, of_product_NH = of_sums_N4H.chunk(4, dim=1)
    of_state_NH, product_NH, before_NH = (recurrent_GH.new_zeros((B * C, H)) for _ in range(3))
    if of_last_BCH is not None:
        of_state_NH.copy_(of_last_BCH.reshape(-1, H))
    for t in range(L - 1, -1, -1):
        if of_states_LBCH is not None:
            of_state_NH += of_states_LBCH[t].reshape(-1, H)
        state_NH = states_LNH[t - 1] if t else before_NH
        (reset_NH, update_NH), new_NH = gates_LNG[t].chunk(2, dim=1), new_LNH[t]
        scale_N1 = scales_LBC[t].reshape(-1, 1)
        steps.products(state_NH, None, product_NH)
        of_share_NH = (new_NH - state_NH).mul_(of_state_NH)
        if replace:
            of_scales_LN[t] = of_share_NH.sum(1)
            torch.mul(of_state_NH, scale_N1, out=of_new_NH)
        else:
            of_scales_LN[t] = (of_share_NH * update_NH).sum(1)
            _through_sigmoid(of_share_NH.mul_(scale_N1), update_NH, of_update_NH)
            torch.mul(of_state_NH, update_NH * scale_N1, out=of_new_NH)
        of_state_NH -= of_new_NH
        torch.ops.aten.tanh_backward.grad_input(of_new_NH, new_NH, grad_input=of_new_NH)
        _through_sigmoid(of_new_NH * product_NH, reset_NH, of_reset_NH)
        torch.mul(of_new_NH, reset_NH, out=of_product_NH)
        torch.sum(steps.by_row(of_sums_N4H[:, : 3 * H]), 1, out=of_inputs_LBG[t])
        of_products_NG = of_sums_N4H[:, H:]
        if low is None:
            of_state_NH.addmm_(of_products_NG, weights_GH)
            of_recurrent_GH.addmm_(of_products_NG.T, state_NH)
        else:
            of_products_NG = of_products_NG.to(low)
            of_state_NH += of_products_NG @ weights_GH
            of_recurrent_GH += of_products_NG.T @ state_NH.to(low)
    return of_inputs_LBG, of_scales_LN.view(L, B, C), of_recurrent_GH


def _through_sigmoid(gradient: Tensor, value: Tensor, out: Tensor) -> None:
    torch.ops.aten.sigmoid_backward.grad_input(gradient, value, grad_input=out)


@gru_last.register_fake
def _(inputs_LBG, scales_LBC, recurrent_GH, replace, low):  # type: ignore[no-untyped-def]
    return recurrent_GH.new_empty((*scales_LBC.shape[1:], recurrent_GH.shape[1]))


@gru_states.register_fake
def _(inputs_LBG, scales_LBC, recurrent_GH, replace, low):  # type: ignore[no-untyped-def]
    (L, B, C), H = scales_LBC.shape, recurrent_GH.shape[1]
    shapes = ((B, C, H), (L, B, C, H), (L, B * C, 2 * H), (L, B * C, H))
    return tuple(recurrent_GH.new_empty(shape) for shape in shapes)


@gru_backward.register_fake
def _(of_last, of_states, scales_LBC, recurrent_GH, states_LBCH, gates, new, replace, low):  # type: ignore[no-untyped-def]
    L, B = scales_LBC.shape[:2]
    of_inputs_LBG = recurrent_GH.new_empty((L, B, recurrent_GH.shape[0]))
    return of_inputs_LBG, scales_LBC.new_empty(scales_LBC.shape), torch.empty_like(recurrent_GH)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, scales_LBC, recurrent_GH, ctx.replace, ctx.low = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(scales_LBC, recurrent_GH, *output[1:])


def _backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    found: tuple[Tensor, ...] = gru_backward(*gradients[:2], *ctx.saved_tensors, ctx.replace, ctx.low)
    return *found, None, None


gru_states.register_autograd(_backward, setup_context=_keep)


def _flops(scales_shape: Any, recurrent_shape: Any, products: int) -> int:
    return 2 * products * math.prod(scales_shape) * math.prod(recurrent_shape)


@register_flop_formula([torch.ops.seqrec.gru_last, torch.ops.seqrec.gru_states])
def _forward_flops(inputs_shape, scales_shape, recurrent_shape, *rest, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return _flops(scales_shape, recurrent_shape, 1)


@register_flop_formula(torch.ops.seqrec.gru_backward)
def _backward_flops(of_last, of_states, scales_shape, recurrent_shape, *rest, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return _flops(scales_shape, recurrent_shape, 2)


def step_by_step(inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, replace: bool) -> Tensor:
    """All states [L, B, C, H] by plain operations: for exported programs, which hold torch's own operators alone."""
    state_BCH = scales_LBC.new_zeros((*scales_LBC.shape[1:], recurrent_GH.shape[1]))
    states = []
    for inputs_BG, scales_BC in zip(inputs_LBG, scales_LBC, strict=True):
        x_new, x_gates = inputs_BG[:, None].split([recurrent_GH.shape[1], 2 * recurrent_GH.shape[1]], dim=-1)
        of_gates, of_new = nn.functional.linear(state_BCH, recurrent_GH).split(x_gates.shape[-1], dim=-1)
        reset, update = (x_gates + of_gates).sigmoid().chunk(2, dim=-1)
        new = (x_new + reset * of_new).tanh()
        state_BCH = state_BCH + scales_BC[..., None] * (1.0 if replace else update) * (new - state_BCH)
        states.append(state_BCH)
    return torch.stack(states)


class Recurrence(nn.Module):
    """A GRU over inputs [B, L, F], with states of its own for every candidate."""

    def __init__(self, features: int, hidden: int, longest: int, replace: bool = False) -> None:
        super().__init__()
        self.project = nn.Linear(features, 3 * hidden)
        self.recurrent = nn.Linear(hidden, 3 * hidden, bias=False)
        self.longest, self.replace = longest, replace

    def last(self, projected_BLG: Tensor, scales_BLC: Tensor) -> Tensor:
        """The states [B, C, H] after all steps."""
        return self._run(projected_BLG, scales_BLC, only_last=True)

    def states(self, projected_BLG: Tensor, scales_BLC: Tensor) -> Tensor:
        """The states [B, L, C, H] after each step."""
        return self._run(projected_BLG, scales_BLC, only_last=False).permute(1, 0, 2, 3)

    def _run(self, projected_BLG: Tensor, scales_BLC: Tensor, only_last: bool) -> Tensor:
        low = None
        if torch.is_autocast_enabled(projected_BLG.device.type):
            low = torch.get_autocast_dtype(projected_BLG.device.type)
        weights_GH = self.recurrent.weight
        inputs_LBG, scales_LBC = (
            x.to(weights_GH.dtype).transpose(0, 1).contiguous() for x in (projected_BLG, scales_BLC)
        )
        if torch.compiler.is_exporting():  # a program's loops have a fixed length: steps past the end are frozen
            missing = self.longest - projected_BLG.shape[1]
            padded_LBG, frozen_LBC = (nn.functional.pad(x, (0, 0, 0, 0, 0, missing)) for x in (inputs_LBG, scales_LBC))
            states_LBCH = step_by_step(padded_LBG, frozen_LBC, weights_GH, self.replace)
            return states_LBCH[-1] if only_last else states_LBCH[: projected_BLG.shape[1]]
        if only_last and not torch.is_grad_enabled():
            return gru_last(inputs_LBG, scales_LBC, weights_GH, self.replace, low)
        last_BCH, states_LBCH, _, _ = gru_states(inputs_LBG, scales_LBC, weights_GH, self.replace, low)
        return last_BCH if only_last else states_LBCH
