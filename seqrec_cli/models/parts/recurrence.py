"""Gated recurrent units whose update gate is scaled from outside, over many sequences at once: DIEN's interest
extractor and its AUGRU and AGRU (Zhou et al. 2019, arXiv 1809.03672, eq. 2-5 and 9-13).

    r = sigmoid(x_r + U_r h)    u = sigmoid(x_u + U_u h)    n = tanh(x_n + r * (U_n h))    h' = h + a u * (n - h)

With `replace` a stands in place of a u. The inputs' projections x hold their biases and are made by one product for
all steps. a = 0 freezes a step (padding), a = 1 is a plain GRU. What has to go step by step is an operator with a
backward pass written by hand: in C where a compiler is there (`recurrence_native.py`), else one loop in which every
operation covers all pairs of row and candidate (`recurrence_loops.py`).

Legend: L steps, B rows, C candidates, N = B x C pairs, H hidden width. Inputs are [L, B, 3H] in the order n, r, u,
the same for all candidates of a row, and may be bf16 where nothing learns; the recurrent weights U are [3H, H] in the
order r, u, n; scales are [L, B, C].
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from seqrec_cli.models.parts import recurrence_loops as loops
from seqrec_cli.models.parts import recurrence_native as native


@torch.library.custom_op("seqrec::gru_last", mutates_args=())
def gru_last(
    inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, replace: bool, low: torch.dtype | None
) -> Tensor:
    """The last states [B, C, H]. `low`: the number format of the products where torch makes them."""
    if loop := native.compiled(recurrent_GH, low):
        return native.last(loop, inputs_LBG, scales_LBC, recurrent_GH, replace)
    return loops.last(inputs_LBG, scales_LBC, recurrent_GH, replace, low)


@torch.library.custom_op("seqrec::gru_states", mutates_args=())
def gru_states(
    inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, replace: bool, keep: bool, low: torch.dtype | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The last states [B, C, H], all states [L, B, C, H], and with `keep`, for backward, gates [L, N, 2H] and n
    [L, N, H]."""
    if loop := native.compiled(recurrent_GH, low):
        return native.states(loop, inputs_LBG, scales_LBC, recurrent_GH, replace, keep)
    return loops.states(inputs_LBG, scales_LBC, recurrent_GH, replace, keep, low)


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
    given = (of_last_BCH, of_states_LBCH, scales_LBC, recurrent_GH, states_LBCH, gates_LNG, new_LNH, replace)
    if loop := native.compiled(recurrent_GH, low):
        return native.backward(loop, *given)
    return loops.backward(*given, low)


@gru_last.register_fake
def _(inputs_LBG, scales_LBC, recurrent_GH, replace, low):  # type: ignore[no-untyped-def]
    return recurrent_GH.new_empty((*scales_LBC.shape[1:], recurrent_GH.shape[1]))


@gru_states.register_fake
def _(inputs_LBG, scales_LBC, recurrent_GH, replace, keep, low):  # type: ignore[no-untyped-def]
    (L, B, C), H = scales_LBC.shape, recurrent_GH.shape[1]
    kept = L if keep else 0
    shapes = ((B, C, H), (L, B, C, H), (kept, B * C, 2 * H), (kept, B * C, H))
    return tuple(recurrent_GH.new_empty(shape) for shape in shapes)


@gru_backward.register_fake
def _(of_last, of_states, scales_LBC, recurrent_GH, states_LBCH, gates, new, replace, low):  # type: ignore[no-untyped-def]
    L, B = scales_LBC.shape[:2]
    of_inputs_LBG = recurrent_GH.new_empty((L, B, recurrent_GH.shape[0]))
    return of_inputs_LBG, scales_LBC.new_empty(scales_LBC.shape), torch.empty_like(recurrent_GH)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, scales_LBC, recurrent_GH, ctx.replace, _, ctx.low = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(scales_LBC, recurrent_GH, *output[1:])


def _backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    found: tuple[Tensor, ...] = gru_backward(*gradients[:2], *ctx.saved_tensors, ctx.replace, ctx.low)
    return *found, None, None, None


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
        learning = torch.is_grad_enabled()
        if learning or torch.compiler.is_exporting():
            projected_BLG = projected_BLG.to(weights_GH.dtype)
        inputs_LBG, scales_LBC = projected_BLG.transpose(0, 1), scales_BLC.to(weights_GH.dtype).transpose(0, 1)
        if torch.compiler.is_exporting():  # a program's loops have a fixed length: steps past the end are frozen
            missing = self.longest - projected_BLG.shape[1]
            padded_LBG, frozen_LBC = (nn.functional.pad(x, (0, 0, 0, 0, 0, missing)) for x in (inputs_LBG, scales_LBC))
            states_LBCH = step_by_step(padded_LBG, frozen_LBC, weights_GH, self.replace)
            return states_LBCH[-1] if only_last else states_LBCH[: projected_BLG.shape[1]]
        if only_last and not learning:
            return gru_last(inputs_LBG, scales_LBC, weights_GH, self.replace, low)
        last_BCH, states_LBCH, _, _ = gru_states(inputs_LBG, scales_LBC, weights_GH, self.replace, learning, low)
        return last_BCH if only_last else states_LBCH
