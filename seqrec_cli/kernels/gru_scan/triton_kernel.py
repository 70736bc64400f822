"""The recurrence and its backward pass in one launch each: a program takes a few pairs of row and candidate through all
steps, so that a state never leaves its processor and a step costs no launch.

Backward writes the gradients before the activations; those of the weights are then one product over all steps and
pairs, and those of inputs that candidates share one sum, by torch: no atomic additions.

Legend: L steps, B rows, C candidates, N = B x C pairs, H hidden width, G = 3H; BN, BH a tile's sizes. Inputs are in the
order n, r, u, recurrent weights in the order r, u, n.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from seqrec_cli.kernels.gru_scan import reference
from seqrec_cli.kernels.registry import INTERPRETED
from seqrec_cli.kernels.tiles import dot, on_device, precision, tile

REPLACED: Any = tl.constexpr(reference.REPLACED)
KEPT: Any = tl.constexpr(reference.KEPT)


@triton.jit
def _matrix(weights_ptr, which, H, BH: tl.constexpr, TURNED: tl.constexpr):
    """A gate's recurrent weights [BH, BH]: U, or with TURNED its transpose."""
    down, across = tl.arange(0, BH)[:, None], tl.arange(0, BH)[None, :]
    inside = (down < H) & (across < H)
    at = which * H * H + (across * H + down if TURNED else down * H + across)
    return tl.load(weights_ptr + at, mask=inside, other=0.0)


@triton.jit
def _share(update, scale, GATE: tl.constexpr):
    """The share [BN, BH] of the new state in the next one."""
    if GATE == REPLACED:
        share = scale[:, None] + tl.zeros_like(update)
    elif GATE == KEPT:
        share = tl.where(scale[:, None] < 0, 0.0, 1.0 - (1.0 - scale[:, None]) * (1.0 - update))
    else:
        share = scale[:, None] * update
    return share


@triton.jit
def _forward(
    inputs_ptr, scales_ptr, weights_ptr, last_ptr, states_ptr, gates_ptr, new_ptr, L, N, C, H,
    input_step, input_row, scale_step, scale_row, scale_candidate,
    GATE: tl.constexpr, STATES: tl.constexpr, KEEP: tl.constexpr, HELD: tl.constexpr, PRECISION: tl.constexpr,
    BN: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """HELD: the weights stay in the program from step to step."""
    pairs, dims = tl.program_id(0) * BN + tl.arange(0, BN), tl.arange(0, BH)
    real, inside = pairs < N, (pairs[:, None] < N) & (dims[None, :] < H)
    rows, candidates = (pairs // C).to(tl.int64), (pairs % C).to(tl.int64)
    if HELD:
        w_reset, w_update = _matrix(weights_ptr, 0, H, BH, True), _matrix(weights_ptr, 1, H, BH, True)
        w_new = _matrix(weights_ptr, 2, H, BH, True)
    state, none = tl.zeros((BN, BH), tl.float32), tl.zeros((BN, BH), tl.float32)
    for t in range(L):
        step = tl.cast(t, tl.int64)
        x = inputs_ptr + step * input_step + rows[:, None] * input_row + dims[None, :]
        scale = tl.load(
            scales_ptr + step * scale_step + rows * scale_row + candidates * scale_candidate, mask=real, other=0.0
        )
        low = state.to(weights_ptr.dtype.element_ty)
        if not HELD:
            w_reset = _matrix(weights_ptr, 0, H, BH, True)
        reset = tl.sigmoid(dot(low, w_reset, none, PRECISION) + tl.load(x + H, mask=inside, other=0.0).to(tl.float32))
        if not HELD:
            w_update = _matrix(weights_ptr, 1, H, BH, True)
        update = dot(low, w_update, none, PRECISION) + tl.load(x + 2 * H, mask=inside, other=0.0).to(tl.float32)
        update = tl.sigmoid(update)
        if not HELD:
            w_new = _matrix(weights_ptr, 2, H, BH, True)
        new = tl.load(x, mask=inside, other=0.0).to(tl.float32) + reset * dot(low, w_new, none, PRECISION)
        new = 2 * tl.sigmoid(2 * new) - 1
        state += _share(update, scale.to(tl.float32), GATE) * (new - state)
        at = (step * N + pairs[:, None].to(tl.int64)) * H + dims[None, :]
        if STATES:
            tl.store(states_ptr + at, state, mask=inside)
        if KEEP:
            at_gates = (step * N + pairs[:, None].to(tl.int64)) * 2 * H + dims[None, :]
            tl.store(gates_ptr + at_gates, reset, mask=inside)
            tl.store(gates_ptr + at_gates + H, update, mask=inside)
            tl.store(new_ptr + at, new, mask=inside)
    tl.store(last_ptr + pairs[:, None].to(tl.int64) * H + dims[None, :], state, mask=inside)


@triton.jit
def _backward(
    grad_last_ptr, grad_states_ptr, scales_ptr, weights_ptr, states_ptr, gates_ptr, new_ptr, sums_ptr, grad_scales_ptr,
    L, N, C, H, scale_step, scale_row, scale_candidate,
    GATE: tl.constexpr, OF_LAST: tl.constexpr, OF_STATES: tl.constexpr, PRECISION: tl.constexpr,
    BN: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """Gradients before the activations, `sums` [L, N, 4H] in the order n, r, u, U_n h, and of the scales [L, N]."""
    pairs, dims = tl.program_id(0) * BN + tl.arange(0, BN), tl.arange(0, BH)
    real, inside = pairs < N, (pairs[:, None] < N) & (dims[None, :] < H)
    rows, candidates = (pairs // C).to(tl.int64), (pairs % C).to(tl.int64)
    each = pairs[:, None].to(tl.int64)
    grad, none = tl.zeros((BN, BH), tl.float32), tl.zeros((BN, BH), tl.float32)
    if OF_LAST:
        grad += tl.load(grad_last_ptr + each * H + dims[None, :], mask=inside, other=0.0)
    for back in range(L):
        step = tl.cast(L - 1 - back, tl.int64)
        at, at_gates = (step * N + each) * H + dims[None, :], (step * N + each) * 2 * H + dims[None, :]
        if OF_STATES:
            grad += tl.load(grad_states_ptr + at, mask=inside, other=0.0)
        before = tl.load(
            states_ptr + at - tl.cast(N, tl.int64) * H,
            mask=inside & (pairs[:, None] < N * tl.minimum(step, 1)),
            other=0.0,
        )
        reset = tl.load(gates_ptr + at_gates, mask=inside, other=0.0)
        update = tl.load(gates_ptr + at_gates + H, mask=inside, other=0.0)
        new = tl.load(new_ptr + at, mask=inside, other=0.0)
        scale_at = scales_ptr + step * scale_step + rows * scale_row + candidates * scale_candidate
        scale = tl.load(scale_at, mask=real, other=0.0).to(tl.float32)
        w_new = _matrix(weights_ptr, 2, H, BH, True)
        product = dot(before.to(w_new.dtype), w_new, none, PRECISION)
        grad_share = grad * (new - before)
        share = _share(update, scale, GATE)
        if GATE == REPLACED:
            of_scale, grad_update = grad_share, tl.zeros_like(grad)
        elif GATE == KEPT:
            free = tl.where(scale >= 0, 1.0, 0.0)[:, None]
            of_scale = grad_share * (1 - update) * free
            grad_update = grad_share * (1 - scale[:, None]) * free * update * (1 - update)
        else:
            of_scale, grad_update = grad_share * update, grad_share * scale[:, None] * update * (1 - update)
        tl.store(grad_scales_ptr + step * N + pairs, tl.sum(of_scale, 1), mask=real)
        grad_new = grad * share * (1 - new * new)
        grad_reset, grad_product = grad_new * product * reset * (1 - reset), grad_new * reset
        sums = sums_ptr + (step * N + each) * 4 * H + dims[None, :]
        tl.store(sums, grad_new, mask=inside)
        tl.store(sums + H, grad_reset, mask=inside)
        tl.store(sums + 2 * H, grad_update, mask=inside)
        tl.store(sums + 3 * H, grad_product, mask=inside)
        grad = grad * (1 - share)
        grad = dot(grad_reset.to(w_new.dtype), _matrix(weights_ptr, 0, H, BH, False), grad, PRECISION)
        grad = dot(grad_update.to(w_new.dtype), _matrix(weights_ptr, 1, H, BH, False), grad, PRECISION)
        grad = dot(grad_product.to(w_new.dtype), _matrix(weights_ptr, 2, H, BH, False), grad, PRECISION)


def settings(N: int, H: int, backward: bool = False) -> dict[str, Any]:
    """Tiles: few pairs, for a batch has to fill the device, and time passes step by step."""
    chosen: dict[str, Any] = {"PRECISION": "ieee" if INTERPRETED else precision(), "BN": 16, "BH": tile(H, 1024)}
    if not backward:
        chosen["HELD"] = H <= 64
    if not INTERPRETED:
        chosen |= {"num_warps": 4 if H <= 32 else 8, "num_stages": 1}
    return chosen


def _shape(scales_LBC: Tensor, recurrent_GH: Tensor) -> tuple[int, int, int, int]:
    L, B, C = scales_LBC.shape
    return L, B * C, max(C, 1), recurrent_GH.shape[1]


def states(
    inputs_LBG: Tensor, scales_LBC: Tensor, recurrent_GH: Tensor, gate: int, keep: bool, low: torch.dtype | None,
    all_states: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """As `torch_loop.states`: the last states [B, C, H], all of them [L, B, C, H] if asked for, gates and n."""
    L, N, C, H = _shape(scales_LBC, recurrent_GH)
    last_NH = recurrent_GH.new_empty((N, H))
    states_LNH = recurrent_GH.new_empty((L if all_states else 0, N, H))
    gates_LNG, new_LNH = (recurrent_GH.new_empty((L if keep else 0, N, width)) for width in (2 * H, H))
    inputs_LBG = inputs_LBG if inputs_LBG.stride(-1) == 1 else inputs_LBG.contiguous()
    weights_GH = (recurrent_GH if low is None else recurrent_GH.to(low)).contiguous()
    chosen = settings(N, H)
    if N:
        with on_device(recurrent_GH):
            _forward[(triton.cdiv(N, chosen["BN"]),)](
                *(inputs_LBG, scales_LBC, weights_GH, last_NH, states_LNH, gates_LNG, new_LNH),
                *(L, N, C, H, *inputs_LBG.stride()[:2], *scales_LBC.stride()),
                **{"GATE": gate, "STATES": all_states, "KEEP": keep, **chosen},
            )
    shape = scales_LBC.shape[1:]
    return last_NH.view(*shape, H), states_LNH.view(-1, *shape, H), gates_LNG, new_LNH


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
    """As `torch_loop.backward`: gradients of the inputs, the scales and the recurrent weights."""
    L, N, C, H = _shape(scales_LBC, recurrent_GH)
    sums_LN4H, grad_scales_LN = recurrent_GH.new_empty((L, N, 4 * H)), recurrent_GH.new_empty((L, N))
    weights_GH = (recurrent_GH if low is None else recurrent_GH.to(low)).contiguous()
    grads = [None if x is None else x.contiguous() for x in (grad_last_BCH, grad_states_LBCH)]
    chosen = settings(N, H, backward=True)
    if N:
        with on_device(recurrent_GH):
            _backward[(triton.cdiv(N, chosen["BN"]),)](
                *(weights_GH if x is None else x for x in grads),
                *(scales_LBC, weights_GH, states_LBCH, gates_LNG, new_LNH, sums_LN4H, grad_scales_LN),
                *(L, N, C, H, *scales_LBC.stride()),
                **{"GATE": gate, "OF_LAST": grads[0] is not None, "OF_STATES": grads[1] is not None, **chosen},
            )
    products_NG, before_NH = sums_LN4H[1:, :, H:].flatten(0, 1), states_LBCH[:-1].reshape(-1, H)
    if low is not None:
        products_NG, before_NH = products_NG.to(low), before_NH.to(low)
    grad_recurrent_GH = (products_NG.T @ before_NH).to(recurrent_GH.dtype)
    grad_inputs_LBG = sums_LN4H[..., : 3 * H].unflatten(1, scales_LBC.shape[1:]).sum(2)
    return grad_inputs_LBG, grad_scales_LN.view(scales_LBC.shape), grad_recurrent_GH
