"""The gated recurrence as a part of exported programs: one step and a loop around it, of as many steps as a call has.

A loop written out step by step makes a graph of a dozen operators a step: DIEN over 60 events took two minutes to trace
and to convert. torch's `scan` is one operator there and `Scan` in ONNX. AOTInductor of torch 2.13 cannot lower it where
sizes change between calls, so its programs hold the steps written out (`written_out`), with those past the end frozen.

Legend: L steps, B rows, C candidates, H hidden width, G = 3H.
"""

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from seqrec_cli.kernels.gru_scan.reference import FROZEN, one_step, step_by_step

_written_out = [False]


@contextlib.contextmanager
def written_out() -> Iterator[None]:
    """Programs that are traced here hold every step of their loops."""
    _written_out[0] = True
    try:
        yield
    finally:
        _written_out[0] = False


def exported(
    inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, gate: int, longest: int
) -> tuple[Tensor, Tensor]:
    """The state after all steps [B, C, H] and after each one [L, B, C, H]."""
    if _written_out[0]:
        missing = longest - inputs_LBG.shape[0]
        pad = (0, 0, 0, 0, 0, missing)
        padded_LBG = nn.functional.pad(inputs_LBG, pad)
        frozen_LBC = nn.functional.pad(scales_LBC, pad, value=FROZEN[gate])
        states_LBCH = step_by_step(padded_LBG, frozen_LBC, recurrent_GH, gate)
        return states_LBCH[-1], states_LBCH[: inputs_LBG.shape[0]]

    def step(state_BCH: Tensor, now: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        inputs_BG, scales_BC = now
        next_BCH = one_step(state_BCH, inputs_BG, scales_BC, recurrent_GH=recurrent_GH, gate=gate)
        return next_BCH, next_BCH.clone()  # a step may not answer one tensor twice

    start_BCH = scales_LBC.new_zeros((*scales_LBC.shape[1:], recurrent_GH.shape[1]))
    last_BCH, states_LBCH = scan(step, start_BCH, (inputs_LBG.contiguous(), scales_LBC.contiguous()), dim=0)
    return last_BCH, states_LBCH
