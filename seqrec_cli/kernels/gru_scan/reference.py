"""The gated recurrence in torch's operators, step by step; what exported programs hold.

    r = sigmoid(x_r + U_r h)    u = sigmoid(x_u + U_u h)    n = tanh(x_n + r * (U_n h))    h' = h + s * (n - h)

The share s of the new state, by the `gate`: SCALED, a u; REPLACED, a itself; KEPT, 1 - (1 - a) (1 - u), so that a = 1
takes all of the new state and a = 0 leaves what a plain GRU does, of whose gate 1 - u is what it keeps. The inputs'
projections x hold their biases and are made by one product for all steps. A scale of FROZEN freezes a step (padding):
0, or below it where 0 does not.

Legend: L steps, B rows, C candidates, H hidden width, G = 3H.
"""

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn

SCALED: Final = 0
REPLACED: Final = 1
KEPT: Final = 2
FROZEN = (0.0, 0.0, -1.0)  # by the gate


def step_by_step(inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, gate: int) -> Tensor:
    """All states [L, B, C, H]."""
    state_BCH = scales_LBC.new_zeros((*scales_LBC.shape[1:], recurrent_GH.shape[1]))
    states = []
    for inputs_BG, scales_BC in zip(inputs_LBG, scales_LBC, strict=True):
        state_BCH = one_step(state_BCH, inputs_BG, scales_BC, recurrent_GH=recurrent_GH, gate=gate)
        states.append(state_BCH)
    return torch.stack(states)


def one_step(state_BCH: Tensor, inputs_BG: Tensor, scales_BC: Tensor, *, recurrent_GH: Tensor, gate: int) -> Tensor:
    """The states [B, C, H] after one step."""
    x_new, x_gates = inputs_BG[:, None].split([recurrent_GH.shape[1], 2 * recurrent_GH.shape[1]], dim=-1)
    gates, product = nn.functional.linear(state_BCH, recurrent_GH).split(x_gates.shape[-1], dim=-1)
    reset, update = (x_gates + gates).sigmoid().chunk(2, dim=-1)
    new = (x_new + reset * product).tanh()
    scales_BC1 = scales_BC[..., None]
    if gate == KEPT:
        share = (1 - (1 - scales_BC1) * (1 - update)).masked_fill(scales_BC1 < 0, 0.0)
    else:
        share = scales_BC1 * (1.0 if gate == REPLACED else update)
    return state_BCH + share * (new - state_BCH)


def reference(
    inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, gate: int, keep: bool, low: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    states_LBCH = step_by_step(inputs_LBG, scales_LBC, recurrent_GH, gate)
    return states_LBCH[-1], states_LBCH


def last_reference(
    inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, gate: int, low: torch.dtype | None
) -> Tensor:
    return step_by_step(inputs_LBG, scales_LBC, recurrent_GH, gate)[-1]


def examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    for L, B, C, H in ((5, 3, 2, 4), (7, 13, 1, 32), (6, 9, 3, 50), (3, 1, 7, 17), (4, 2, 5, 128)):
        for gate in (SCALED, REPLACED, KEPT):
            inputs, recurrent = torch.randn(L, B, 3 * H, dtype=dtype), torch.randn(3 * H, H, dtype=dtype) / 2 / H**0.5
            yield inputs, torch.rand(L, B, C, dtype=dtype), recurrent, gate, True, None


def last_examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    """Without gradients: the operator has none."""
    for inputs, scales, recurrent, gate, _, low in examples(dtype):
        yield (
            inputs.transpose(0, 1).contiguous().transpose(0, 1),
            scales[..., :1].expand_as(scales),
            recurrent,
            gate,
            low,
        )
