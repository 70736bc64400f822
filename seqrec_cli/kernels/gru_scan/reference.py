"""The gated recurrence in torch's operators, step by step; what exported programs hold.

    r = sigmoid(x_r + U_r h)    u = sigmoid(x_u + U_u h)    n = tanh(x_n + r * (U_n h))    h' = h + a u * (n - h)

With `replace` a stands in place of a u. The inputs' projections x hold their biases and are made by one product for
all steps. a = 0 freezes a step (padding), a = 1 is a plain GRU.

Legend: L steps, B rows, C candidates, H hidden width, G = 3H.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def step_by_step(inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, replace: bool) -> Tensor:
    """All states [L, B, C, H]."""
    state_BCH = scales_LBC.new_zeros((*scales_LBC.shape[1:], recurrent_GH.shape[1]))
    states = []
    for inputs_BG, scales_BC in zip(inputs_LBG, scales_LBC, strict=True):
        x_new, x_gates = inputs_BG[:, None].split([recurrent_GH.shape[1], 2 * recurrent_GH.shape[1]], dim=-1)
        gates, product = nn.functional.linear(state_BCH, recurrent_GH).split(x_gates.shape[-1], dim=-1)
        reset, update = (x_gates + gates).sigmoid().chunk(2, dim=-1)
        new = (x_new + reset * product).tanh()
        state_BCH = state_BCH + scales_BC[..., None] * (1.0 if replace else update) * (new - state_BCH)
        states.append(state_BCH)
    return torch.stack(states)


def reference(
    inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, replace: bool, keep: bool, low: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    states_LBCH = step_by_step(inputs_LBG, scales_LBC, recurrent_GH, replace)
    return states_LBCH[-1], states_LBCH


def last_reference(
    inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, replace: bool, low: torch.dtype | None
) -> Tensor:
    return step_by_step(inputs_LBG, scales_LBC, recurrent_GH, replace)[-1]


def examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    for L, B, C, H in ((5, 3, 2, 4), (7, 13, 1, 32), (6, 9, 3, 50), (3, 1, 7, 17), (4, 2, 5, 128)):
        for replace in (False, True):
            inputs, recurrent = torch.randn(L, B, 3 * H, dtype=dtype), torch.randn(3 * H, H, dtype=dtype) / 2 / H**0.5
            yield inputs, torch.rand(L, B, C, dtype=dtype), recurrent, replace, True, None


def last_examples(dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    """Without gradients: the operator has none."""
    for inputs, scales, recurrent, replace, _, low in examples(dtype):
        yield (
            inputs.transpose(0, 1).contiguous().transpose(0, 1),
            scales[..., :1].expand_as(scales),
            recurrent,
            replace,
            low,
        )
