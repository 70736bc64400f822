"""Gated recurrent units whose update gate is scaled from outside, over many sequences at once: GRU4Rec's layers, DIEN's
interest extractor and its AUGRU and AGRU (Zhou et al. 2019, arXiv 1809.03672, eq. 2-5 and 9-13); see reference.py,
which also says what a `gate` is.

The loop over time is one operator with a backward pass written by hand: in C on a CPU in fp32, whose inputs may be
bf16, on a GPU in Triton (`triton_kernel.py`), else one loop in which every operation covers all pairs of row and
candidate (`torch_loop.py`).

Legend: L steps, B rows, C candidates, N = B x C pairs, H hidden width, G = 3H, P is H rounded up to a multiple of 16.
Inputs are [L, B, 3H] in the order n, r, u, the same for all candidates of a row, and may be bf16 where nothing learns;
the recurrent weights U are [3H, H] in the order r, u, n; scales are [L, B, C].
"""

import ctypes
import math
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.kernels.gru_scan import torch_loop
from seqrec_cli.kernels.gru_scan.in_programs import exported
from seqrec_cli.kernels.gru_scan.reference import (
    examples,
    last_examples,
    last_reference,
    reference,
)
from seqrec_cli.kernels.registry import (
    INT,
    LONG,
    POINTER,
    VECTOR,
    Kernel,
    Source,
    addresses,
    enabled,
    flop_formula,
    on_triton,
    operator,
    triton_kernels,
)

NAME = "gru_scan"
WIDEST = 1024  # states: a block of rows lies on its thread's stack
WIDEST_IN_TRITON = 64  # of 128 the weights do not fit the registers of a program (ptxas: kilobytes are spilled)
WIDEST_BESIDE_LOW = 128  # beyond, products in 16 bits win: of 256, by 20 % to 2 times with 512 rows (two AVX512 cores)


class _Strides(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("step", "row", "candidate")]


_STRIDES, _SIZES = ctypes.POINTER(_Strides), (LONG, LONG, LONG, INT, INT)
SOURCE = Source(
    __file__,
    gru_scan=(POINTER, INT, _STRIDES, POINTER, _STRIDES, *[POINTER] * 5, *_SIZES),
    gru_scan_backward=(POINTER, POINTER, _STRIDES, POINTER, _STRIDES, *[POINTER] * 8, *_SIZES),
)


def gru_scan(
    inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, *, gate: int, only_last: bool, longest: int
) -> Tensor:
    """The states [L, B, C, H] after each step, or with `only_last` [B, C, H] after all of them, of which there are at
    most `longest`."""
    device, learning = inputs_LBG.device.type, torch.is_grad_enabled()
    low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    if learning or torch.compiler.is_exporting():
        inputs_LBG = inputs_LBG.to(recurrent_GH.dtype)
    scales_LBC = scales_LBC.to(recurrent_GH.dtype)
    if torch.compiler.is_exporting():
        last_BCH, states_LBCH = exported(inputs_LBG, scales_LBC, recurrent_GH, gate, longest)
        return last_BCH if only_last else states_LBCH
    if only_last and not learning:
        end_BCH: Tensor = _gru_last(inputs_LBG, scales_LBC, recurrent_GH, gate, low)
        return end_BCH
    last_BCH, states_LBCH, _, _ = _gru_states(inputs_LBG, scales_LBC, recurrent_GH, gate, learning, low)
    return last_BCH if only_last else states_LBCH


def _loop(recurrent_GH: Tensor, low: torch.dtype | None) -> ctypes.CDLL | None:
    """The loop in C for tensors like these weights; None where torch's operators have to do, or do better with
    products in the number format `low`."""
    H = recurrent_GH.shape[1]
    fits = recurrent_GH.device.type == "cpu" and recurrent_GH.dtype == torch.float32
    widest = WIDEST if low is None else WIDEST_BESIDE_LOW
    return SOURCE.compiled("H", H) if fits and widest >= H and enabled() and not _by_triton(recurrent_GH) else None


def _by_triton(recurrent_GH: Tensor) -> bool:
    fits = recurrent_GH.shape[1] <= WIDEST_IN_TRITON and recurrent_GH.dtype == torch.float32
    return fits and on_triton(NAME, recurrent_GH.device)


def _fake_last(inputs_LBG, scales_LBC, recurrent_GH, *_):  # type: ignore[no-untyped-def]
    return recurrent_GH.new_empty((*scales_LBC.shape[1:], recurrent_GH.shape[1]))


@operator(_fake_last, device="default")
def _gru_last(
    inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, gate: int, low: torch.dtype | None
) -> Tensor:
    """The last states [B, C, H]. `low`: the number format of the products where torch makes them."""
    if loop := _loop(recurrent_GH, low):
        return _forward(loop, inputs_LBG, scales_LBC, recurrent_GH, gate, None, None, None)
    if _by_triton(recurrent_GH):
        given = inputs_LBG, scales_LBC, recurrent_GH, gate, False, low
        found: Tensor = triton_kernels(NAME).states(*given, all_states=False)[0]
        return found
    return torch_loop.last(inputs_LBG, scales_LBC, recurrent_GH, gate, low)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, scales_LBC, recurrent_GH, ctx.gate, _, ctx.low = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(scales_LBC, recurrent_GH, *output[1:])


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    found: tuple[Tensor, ...] = _gru_states_backward(*grads[:2], *ctx.saved_tensors, ctx.gate, ctx.low)
    return *found, None, None, None


def _fake_states(inputs_LBG, scales_LBC, recurrent_GH, gate, keep, low):  # type: ignore[no-untyped-def]
    (L, B, C), H = scales_LBC.shape, recurrent_GH.shape[1]
    kept = L if keep else 0
    shapes = ((B, C, H), (L, B, C, H), (kept, B * C, 2 * H), (kept, B * C, H))
    return tuple(recurrent_GH.new_empty(shape) for shape in shapes)


@operator(_fake_states, _backward, _save, device="default")
def _gru_states(
    inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, gate: int, keep: bool, low: torch.dtype | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The last states [B, C, H], all states [L, B, C, H], and with `keep`, for backward, gates [L, N, 2H] and n
    [L, N, H]."""
    if (loop := _loop(recurrent_GH, low)) is None:
        outside_c = triton_kernels(NAME) if _by_triton(recurrent_GH) else torch_loop
        made: tuple[Tensor, Tensor, Tensor, Tensor] = outside_c.states(
            inputs_LBG, scales_LBC, recurrent_GH, gate, keep, low
        )
        return made
    (L, B, C), H = scales_LBC.shape, recurrent_GH.shape[1]
    states_LBCH = recurrent_GH.new_empty((L, B, C, H))
    gates_LNG, new_LNH = (recurrent_GH.new_empty((L if keep else 0, B * C, width)) for width in (2 * H, H))
    kept = (gates_LNG, new_LNH) if keep else (None, None)
    last_BCH = _forward(loop, inputs_LBG, scales_LBC, recurrent_GH, gate, states_LBCH, *kept)
    return last_BCH, states_LBCH, gates_LNG, new_LNH


def _forward(
    loop: ctypes.CDLL,
    inputs_LBG: Tensor,
    scales_LBC: Tensor,
    recurrent_GH: Tensor,
    gate: int,
    states_LBCH: Tensor | None,
    gates_LNG: Tensor | None,
    new_LNH: Tensor | None,
) -> Tensor:
    """The last states; the others are written to the tensors given."""
    if inputs_LBG.dtype not in (torch.float32, torch.bfloat16):
        inputs_LBG = inputs_LBG.float()
    inputs_LBG, (weights_HG, _) = _dense(inputs_LBG), _padded(recurrent_GH)
    last_BCH = recurrent_GH.new_empty((*scales_LBC.shape[1:], recurrent_GH.shape[1]))
    loop.gru_scan(
        inputs_LBG.data_ptr(),
        int(inputs_LBG.dtype == torch.bfloat16),
        _Strides(*inputs_LBG.stride()[:2]),
        scales_LBC.data_ptr(),
        _Strides(*scales_LBC.stride()),
        *addresses(weights_HG, last_BCH, states_LBCH, gates_LNG, new_LNH),
        *(*scales_LBC.shape, gate, torch.get_num_threads()),
    )
    return last_BCH


def _fake_backward(grad_last, grad_states, scales_LBC, recurrent_GH, *_):  # type: ignore[no-untyped-def]
    grad_inputs_LBG = recurrent_GH.new_empty((*scales_LBC.shape[:2], recurrent_GH.shape[0]))
    return grad_inputs_LBG, scales_LBC.new_empty(scales_LBC.shape), torch.empty_like(recurrent_GH)


@operator(_fake_backward, device="default")
def _gru_states_backward(
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
    """Gradients of the inputs [L, B, 3H], the scales [L, B, C] and the recurrent weights [3H, H]."""
    kept = scales_LBC, recurrent_GH, states_LBCH, gates_LNG, new_LNH
    if (loop := _loop(recurrent_GH, low)) is None:
        outside_c = triton_kernels(NAME) if _by_triton(recurrent_GH) else torch_loop
        made: tuple[Tensor, Tensor, Tensor] = outside_c.backward(grad_last_BCH, grad_states_LBCH, *kept, gate, low)
        return made
    (L, B, C), (G, H), threads = scales_LBC.shape, recurrent_GH.shape, torch.get_num_threads()
    grad_last_BCH = None if grad_last_BCH is None else grad_last_BCH.contiguous()
    grad_states_LBCH = None if grad_states_LBCH is None else _dense(grad_states_LBCH)
    weights_HG, turned_GP = _padded(recurrent_GH)
    grad_inputs_LBG, grad_scales_LBC = recurrent_GH.new_zeros((L, B, G)), recurrent_GH.new_empty((L, B, C))
    partials = recurrent_GH.new_zeros((threads, *turned_GP.shape))
    loop.gru_scan_backward(
        *addresses(grad_last_BCH, grad_states_LBCH),
        _Strides() if grad_states_LBCH is None else _Strides(*grad_states_LBCH.stride()[:3]),
        scales_LBC.data_ptr(),
        _Strides(*scales_LBC.stride()),
        *addresses(weights_HG, turned_GP, states_LBCH, gates_LNG, new_LNH, grad_inputs_LBG, grad_scales_LBC, partials),
        *(L, B, C, gate, threads),
    )
    return grad_inputs_LBG, grad_scales_LBC, partials.sum(0)[:, :H].contiguous()


def _dense(x: Tensor) -> Tensor:
    """With a contiguous last dimension."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _padded(recurrent_GH: Tensor) -> tuple[Tensor, Tensor]:
    """[H, 3P], for products with states, and [3H, P], for those with gradients."""
    H = recurrent_GH.shape[1]
    missing = -H % VECTOR
    turned_GP = nn.functional.pad(recurrent_GH, (0, missing)).contiguous()
    by_gate_KHH = nn.functional.pad(recurrent_GH.view(3, H, H), (0, 0, 0, missing))
    return by_gate_KHH.permute(2, 0, 1).reshape(H, -1).contiguous(), turned_GP


def _flops(scales_shape: Any, recurrent_shape: Any, products: int) -> int:
    return 2 * products * math.prod(scales_shape) * math.prod(recurrent_shape)


@flop_formula(torch.ops.seqrec.gru_last, torch.ops.seqrec.gru_states)
def _forward_flops(inputs_shape, scales_shape, recurrent_shape, *rest, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return _flops(scales_shape, recurrent_shape, 1)


@flop_formula(torch.ops.seqrec.gru_states_backward)
def _backward_flops(grad_last, grad_states, scales_shape, recurrent_shape, *rest, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return _flops(scales_shape, recurrent_shape, 2)


KERNELS = (
    Kernel(_gru_states, reference, examples, formats=(torch.float32,)),
    Kernel(_gru_last, last_reference, last_examples, formats=(torch.float32,)),
)
