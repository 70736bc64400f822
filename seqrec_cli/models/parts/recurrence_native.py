"""recurrence.py's loop over time and its backward pass in C (`recurrence.c`), in fp32 on a CPU; inputs may be bf16.

Legend as there: L steps, B rows, C candidates, N = B x C pairs, H hidden width; G = 3H; P is H rounded up to a
multiple of 16.
"""

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqrec_cli.models.parts.native import VECTOR, library

SOURCE = Path(__file__).with_name("recurrence.c")
WIDEST = 1024  # states: a block of rows lies on its thread's stack
WIDEST_BESIDE_LOW = 128  # beyond, products in 16 bits win: of 256, by 20 % to 2 times with 512 rows (two AVX512 cores)


class _Strides(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("step", "row", "candidate")]


def compiled(recurrent_GH: Tensor, low: torch.dtype | None) -> ctypes.CDLL | None:
    """The loop in C for tensors like these weights; None where torch's operators have to do, or do better with
    products in the number format `low`."""
    H = recurrent_GH.shape[1]
    fits = recurrent_GH.device.type == "cpu" and recurrent_GH.dtype == torch.float32
    widest = WIDEST if low is None else WIDEST_BESIDE_LOW
    return _loop(H) if fits and widest >= H else None


@functools.cache
def _loop(hidden: int) -> ctypes.CDLL | None:
    loop = library(SOURCE, "H", hidden)
    if loop is not None:
        pointer, sizes = ctypes.c_void_p, (*[ctypes.c_long] * 3, *[ctypes.c_int] * 2)
        loop.forward.argtypes = [pointer, ctypes.c_int, *[pointer] * 8, *sizes]
        loop.backward.argtypes = [*[pointer] * 13, *sizes]
        loop.forward.restype = loop.backward.restype = None
    return loop


def last(loop: ctypes.CDLL, inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, replace: bool) -> Tensor:
    """The last states [B, C, H]."""
    return _forward(loop, inputs_LBG, scales_LBC, recurrent_GH, replace, None, None, None)


def states(
    loop: ctypes.CDLL, inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, replace: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The last states [B, C, H], all states [L, B, C, H], and with `keep` the gates [L, N, 2H] and n [L, N, H]."""
    (L, B, C), H = scales_LBC.shape, recurrent_GH.shape[1]
    states_LBCH = recurrent_GH.new_empty((L, B, C, H))
    gates_LNG, new_LNH = (recurrent_GH.new_empty((L if keep else 0, B * C, width)) for width in (2 * H, H))
    kept = (gates_LNG, new_LNH) if keep else (None, None)
    last_BCH = _forward(loop, inputs_LBG, scales_LBC, recurrent_GH, replace, states_LBCH, *kept)
    return last_BCH, states_LBCH, gates_LNG, new_LNH


def backward(
    loop: ctypes.CDLL,
    of_last_BCH: Tensor | None,
    of_states_LBCH: Tensor | None,
    scales_LBC: Tensor,
    recurrent_GH: Tensor,
    states_LBCH: Tensor,
    gates_LNG: Tensor,
    new_LNH: Tensor,
    replace: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the inputs [L, B, 3H], the scales [L, B, C] and the recurrent weights [3H, H]."""
    (L, B, C), (G, H) = scales_LBC.shape, recurrent_GH.shape
    of_last_BCH = None if of_last_BCH is None else of_last_BCH.contiguous()
    of_states_LBCH = None if of_states_LBCH is None else _dense(of_states_LBCH)
    weights_HG, turned_GP = _padded(recurrent_GH)
    of_inputs_LBG, of_scales_LBC = recurrent_GH.new_zeros((L, B, G)), recurrent_GH.new_empty((L, B, C))
    parts = torch.get_num_threads()
    of_weights = recurrent_GH.new_zeros((parts, *turned_GP.shape))
    of = _Strides() if of_states_LBCH is None else _Strides(*of_states_LBCH.stride()[:3])
    loop.backward(
        *_addresses(of_last_BCH, of_states_LBCH, of, scales_LBC, _Strides(*scales_LBC.stride()), weights_HG, turned_GP),
        *_addresses(states_LBCH, gates_LNG, new_LNH, of_inputs_LBG, of_scales_LBC, of_weights),
        *_sizes(scales_LBC, replace, parts),
    )
    return of_inputs_LBG, of_scales_LBC, of_weights.sum(0)[:, :H].contiguous()


def _forward(
    loop: ctypes.CDLL,
    inputs_LBG: Tensor,
    scales_LBC: Tensor,
    recurrent_GH: Tensor,
    replace: bool,
    states_LBCH: Tensor | None,
    gates_LNG: Tensor | None,
    new_LNH: Tensor | None,
) -> Tensor:
    if inputs_LBG.dtype not in (torch.float32, torch.bfloat16):
        inputs_LBG = inputs_LBG.float()
    inputs_LBG, (weights_HG, _) = _dense(inputs_LBG), _padded(recurrent_GH)
    last_BCH = recurrent_GH.new_empty((*scales_LBC.shape[1:], recurrent_GH.shape[1]))
    loop.forward(
        inputs_LBG.data_ptr(),
        int(inputs_LBG.dtype == torch.bfloat16),
        *_addresses(_Strides(*inputs_LBG.stride()[:2]), scales_LBC, _Strides(*scales_LBC.stride())),
        *_addresses(weights_HG, last_BCH, states_LBCH, gates_LNG, new_LNH),
        *_sizes(scales_LBC, replace, torch.get_num_threads()),
    )
    return last_BCH


def _dense(x: Tensor) -> Tensor:
    """With a last dimension that is read as one."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _padded(recurrent_GH: Tensor) -> tuple[Tensor, Tensor]:
    """[H, 3P], for products with states, and [3H, P], for those with gradients."""
    H = recurrent_GH.shape[1]
    missing = -H % VECTOR
    turned_GP = torch.nn.functional.pad(recurrent_GH, (0, missing)).contiguous()
    by_gate_KHH = torch.nn.functional.pad(recurrent_GH.view(3, H, H), (0, 0, 0, missing))
    return by_gate_KHH.permute(2, 0, 1).reshape(H, -1).contiguous(), turned_GP


def _addresses(*values: "Tensor | _Strides | None") -> list[Any]:
    return [x.data_ptr() if isinstance(x, Tensor) else None if x is None else ctypes.byref(x) for x in values]


def _sizes(scales_LBC: Tensor, replace: bool, parts: int) -> tuple[int, ...]:
    return (*scales_LBC.shape, int(replace), parts)
