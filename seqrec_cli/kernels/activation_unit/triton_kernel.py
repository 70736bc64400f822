"""The activation unit with nothing of a pair written to memory but its weight: a program makes a candidate's matrix,
w_event + diag(c) w_product, and takes the events through the layers; backward makes the layers' outputs again.

Programs of backward go over rows in turn and sum the weights' gradients in registers; torch sums those of all programs.
Nothing is added atomically: the bits are the same every time on one kind of GPU.

Legend: B rows, L events, C candidates, F features, M and K widths of the hidden layers, W the last one's; P programs, T
tiles of events; BL, BF, BM, BK a tile's sizes.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from seqrec_cli.kernels.activation_unit import reference
from seqrec_cli.kernels.registry import INTERPRETED
from seqrec_cli.kernels.tiles import dot, on_device, precision, processors, tile

PRELU: Any = tl.constexpr(reference.PRELU)
SIGMOID: Any = tl.constexpr(reference.SIGMOID)


@triton.jit
def _matrix(x_ptr, rows, columns, BR: tl.constexpr, BC: tl.constexpr):
    """A contiguous [rows, columns] whole."""
    down, across = tl.arange(0, BR)[:, None], tl.arange(0, BC)[None, :]
    return tl.load(x_ptr + down * columns + across, mask=(down < rows) & (across < columns), other=0.0)


@triton.jit
def _store_matrix(x_ptr, value, rows, columns, BR: tl.constexpr, BC: tl.constexpr):
    down, across = tl.arange(0, BR)[:, None], tl.arange(0, BC)[None, :]
    tl.store(x_ptr + down * columns + across, value, mask=(down < rows) & (across < columns))


@triton.jit
def _vector(x_ptr, size, BS: tl.constexpr):
    return tl.load(x_ptr + tl.arange(0, BS), mask=tl.arange(0, BS) < size, other=0.0).to(tl.float32)


@triton.jit
def _act(x, numbers_ptr, size, KIND: tl.constexpr, BS: tl.constexpr):
    """An activation's output, and its derivatives by x and by the slope."""
    if KIND == SIGMOID:
        y = tl.sigmoid(x)
        return y, y * (1 - y), y * 0.0
    else:
        slope = _vector(numbers_ptr, size, BS)[None, :]
        if KIND == PRELU:
            gate = tl.where(x > 0, 1.0, 0.0)
        else:
            scale, offset = _vector(numbers_ptr + size, size, BS), _vector(numbers_ptr + 2 * size, size, BS)
            gate = tl.sigmoid(x * scale[None, :] + offset[None, :])
        factor = slope + (1 - slope) * gate
        return x * factor, factor, x * (1 - gate)  # of Dice the gate's own derivative is not needed: no gradients


@triton.jit
def _forward(
    events_ptr, candidates_ptr, shifts_ptr, w_event_ptr, w_product_ptr, first_ptr, w_second_ptr, bias_ptr, second_ptr,
    weight_ptr, raw_ptr, L, C, F, M, K, candidate_row, candidate_each, shift_row, shift_each,
    KIND: tl.constexpr, TWO: tl.constexpr, PRECISION: tl.constexpr,
    BL: tl.constexpr, BF: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    row, each = (tl.program_id(0) // C).to(tl.int64), (tl.program_id(0) % C).to(tl.int64)
    features = tl.arange(0, BF)
    c = _vector(candidates_ptr + row * candidate_row + each * candidate_each, F, BF)
    shift = _vector(shifts_ptr + row * shift_row + each * shift_each, M, BM)
    w_event, w_product = _matrix(w_event_ptr, F, M, BF, BM), _matrix(w_product_ptr, F, M, BF, BM)
    matrix = (w_event + c[:, None] * w_product).to(events_ptr.dtype.element_ty)
    for start in range(0, L, BL):
        places = start + tl.arange(0, BL)
        at = (row * L + places[:, None]) * F + features[None, :]
        h = tl.load(events_ptr + at, mask=(places[:, None] < L) & (features[None, :] < F), other=0.0)
        x = dot(h, matrix, tl.zeros((BL, BM), tl.float32), PRECISION) + shift[None, :]
        a, _, _ = _act(x, first_ptr, M, KIND, BM)
        if TWO:
            w_second = _matrix(w_second_ptr, M, K, BM, BK)
            y = dot(a.to(w_second.dtype), w_second, tl.zeros((BL, BK), tl.float32), PRECISION)
            z, _, _ = _act(y + _vector(bias_ptr, K, BK)[None, :], second_ptr, K, KIND, BK)
            raw = tl.sum(z * _vector(weight_ptr, K, BK)[None, :], 1)
        else:
            raw = tl.sum(a * _vector(weight_ptr, M, BM)[None, :], 1)
        tl.store(raw_ptr + (row * L + places) * C + each, raw, mask=places < L)


@triton.jit
def _backward(
    grad_ptr, events_ptr, candidates_ptr, shifts_ptr, w_event_ptr, w_product_ptr, first_ptr, w_second_ptr, bias_ptr,
    second_ptr, weight_ptr, grad_events_ptr, grad_candidates_ptr, grad_shifts_ptr, of_event_ptr, of_product_ptr,
    of_second_ptr, of_first_ptr, of_inner_ptr, B, L, C, F, M, K, tiles, candidate_row, candidate_each, shift_row,
    shift_each, KIND: tl.constexpr, TWO: tl.constexpr, PRECISION: tl.constexpr,
    BL: tl.constexpr, BF: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Gradients of events [B, L, F], candidates [T, B, C, F], shifts [T, B, C, M], w_event and w_product [P, F, M],
    w_second [P, M, K], (slope, weight) of the first layer [P, 2, M], (slope, weight, bias) of the second [P, 3, K]."""
    program, features, widths = tl.program_id(0), tl.arange(0, BF), tl.arange(0, BM)
    of_event, of_product = tl.zeros((BF, BM), tl.float32), tl.zeros((BF, BM), tl.float32)
    of_slope, of_weight = tl.zeros((BM,), tl.float32), tl.zeros((BM,), tl.float32)
    of_second = tl.zeros((BM, BK), tl.float32)
    of_slope_2, of_weight_2 = tl.zeros((BK,), tl.float32), tl.zeros((BK,), tl.float32)
    of_bias = tl.zeros((BK,), tl.float32)
    for task in range(program, B * tiles, tl.num_programs(0)):
        row, part = (task // tiles).to(tl.int64), (task % tiles).to(tl.int64)
        places = part * BL + tl.arange(0, BL)
        at = (row * L + places[:, None]) * F + features[None, :]
        inside = (places[:, None] < L) & (features[None, :] < F)
        h, grad_h = tl.load(events_ptr + at, mask=inside, other=0.0), tl.zeros((BL, BF), tl.float32)
        for each in range(C):
            c = _vector(candidates_ptr + row * candidate_row + each * candidate_each, F, BF)
            shift = _vector(shifts_ptr + row * shift_row + each * shift_each, M, BM)
            w_event, w_product = _matrix(w_event_ptr, F, M, BF, BM), _matrix(w_product_ptr, F, M, BF, BM)
            matrix = (w_event + c[:, None] * w_product).to(h.dtype)
            grad = tl.load(grad_ptr + (row * L + places) * C + each, mask=places < L, other=0.0)[:, None]
            x = dot(h, matrix, tl.zeros((BL, BM), tl.float32), PRECISION) + shift[None, :]
            a, by_x, by_slope = _act(x, first_ptr, M, KIND, BM)
            if TWO:
                w_second, weight = _matrix(w_second_ptr, M, K, BM, BK), _vector(weight_ptr, K, BK)
                y = dot(a.to(w_second.dtype), w_second, tl.zeros((BL, BK), tl.float32), PRECISION)
                z, by_y, by_slope_2 = _act(y + _vector(bias_ptr, K, BK)[None, :], second_ptr, K, KIND, BK)
                grad_z = grad * weight[None, :]
                grad_y = grad_z * by_y
                of_weight_2 += tl.sum(grad * z, 0)
                of_slope_2 += tl.sum(grad_z * by_slope_2, 0)
                of_bias += tl.sum(grad_y, 0)
                of_second = dot(tl.trans(a.to(h.dtype)), grad_y.to(h.dtype), of_second, PRECISION)
                none = tl.zeros((BL, BM), tl.float32)
                grad_a = dot(grad_y.to(h.dtype), tl.trans(w_second), none, PRECISION)
            else:
                of_weight += tl.sum(grad * a, 0)
                grad_a = grad * _vector(weight_ptr, M, BM)[None, :]
            of_slope += tl.sum(grad_a * by_slope, 0)
            grad_x = grad_a * by_x
            low_x = grad_x.to(h.dtype)
            grad_h = dot(low_x, tl.trans(matrix), grad_h, PRECISION)
            of_matrix = dot(tl.trans(h), low_x, tl.zeros((BF, BM), tl.float32), PRECISION)
            of_event += of_matrix
            of_product += c[:, None] * of_matrix
            pair = (part * B + row) * C + each
            of_c = tl.sum(of_matrix * w_product, 1)
            tl.store(grad_candidates_ptr + pair * F + features, of_c, mask=features < F)
            tl.store(grad_shifts_ptr + pair * M + widths, tl.sum(grad_x, 0), mask=widths < M)
        tl.store(grad_events_ptr + at, grad_h, mask=inside)
    _store_matrix(of_event_ptr + program * F * M, of_event, F, M, BF, BM)
    _store_matrix(of_product_ptr + program * F * M, of_product, F, M, BF, BM)
    tl.store(of_first_ptr + program * 2 * M + widths, of_slope, mask=widths < M)
    tl.store(of_first_ptr + program * 2 * M + M + widths, of_weight, mask=widths < M)
    if TWO:
        inner = tl.arange(0, BK)
        _store_matrix(of_second_ptr + program * M * K, of_second, M, K, BM, BK)
        tl.store(of_inner_ptr + program * 3 * K + inner, of_slope_2, mask=inner < K)
        tl.store(of_inner_ptr + program * 3 * K + K + inner, of_weight_2, mask=inner < K)
        tl.store(of_inner_ptr + program * 3 * K + 2 * K + inner, of_bias, mask=inner < K)


def settings(F: int, M: int, K: int, *, backward: bool = False) -> dict[str, Any]:
    """A launch's tiles."""
    chosen = {"PRECISION": precision(), "BF": tile(F, 1024), "BM": tile(M, 1024), "BK": tile(K, 1024)}
    if INTERPRETED:
        return chosen | {"PRECISION": "ieee", "BL": 16}
    warps = (16 if F * M > 4096 else 8) if backward else 8 if M > 64 else 4
    return chosen | {"BL": 32 if backward else 64, "num_warps": warps, "num_stages": 1}


def _sizes(given: tuple[Tensor | None, ...]) -> tuple[int, int, int, int, int]:
    """L, C, F, M, K."""
    events_BLF, candidates_BCF, shifts_BCM, w_second_MK = given[0], given[1], given[2], given[6]
    assert events_BLF is not None
    assert candidates_BCF is not None
    assert shifts_BCM is not None
    K = 1 if w_second_MK is None else w_second_MK.shape[1]
    return *events_BLF.shape[1:2], *candidates_BCF.shape[1:], shifts_BCM.shape[2], K


def _strides(candidates_BCF: Tensor, shifts_BCM: Tensor) -> tuple[int, ...]:
    return *candidates_BCF.stride()[:2], *shifts_BCM.stride()[:2]


def forward(given: tuple[Any, ...], kind: int) -> Tensor:
    """[B, L, C] in fp32; `given` are the operator's tensors, events and w_second in the format of products, others
    fp32; the last dimension contiguous, candidates and shifts may be shared by rows."""
    events_BLF, (L, C, F, M, K), two = given[0], _sizes(given), given[6] is not None
    raw_BLC = torch.empty((len(events_BLF), L, C), dtype=torch.float32, device=events_BLF.device)
    if raw_BLC.numel():
        tensors = [events_BLF if x is None else x for x in given]
        with on_device(events_BLF):
            _forward[(len(events_BLF) * C,)](
                *(*tensors, raw_BLC, L, C, F, M, K, *_strides(*given[1:3])),
                **{"KIND": kind, "TWO": two, **settings(F, M, K)},
            )
    return raw_BLC


def backward(grad_BLC: Tensor, given: tuple[Any, ...], kind: int) -> tuple[Tensor, ...]:
    """Gradients of all tensors that `forward` was given, in fp32; empty for those that are not there."""
    events_BLF, (L, C, F, M, K), two = given[0], _sizes(given), given[6] is not None
    B, chosen = len(events_BLF), settings(F, M, K, backward=True)
    tiles = triton.cdiv(L, chosen["BL"])
    programs = max(1, min(B * tiles, 2 * processors(events_BLF.device)))
    shapes = ((B, L, F), (tiles, B, C, F), (tiles, B, C, M), *[(programs, F, M)] * 2)
    inner = ((programs, M, K) if two else (1, 0), (programs, 2, M), (programs, 3, K if two else 0))
    make = torch.empty if grad_BLC.numel() else torch.zeros
    made = [make(shape, dtype=torch.float32, device=events_BLF.device) for shape in (*shapes, *inner)]
    if grad_BLC.numel():
        tensors = [events_BLF if x is None else x for x in given]
        with on_device(events_BLF):
            _backward[(programs,)](
                *(grad_BLC, *tensors, *made, B, L, C, F, M, K, tiles, *_strides(*given[1:3])),
                **{"KIND": kind, "TWO": two, **chosen},
            )
    events, *summed = made[0], *(x.sum(0) for x in made[1:])
    candidates, shifts, w_event, w_product, w_second, first_2M, inner_3K = summed
    slopes = [_beside_zeros(x[0]) for x in (first_2M, inner_3K)]
    last = inner_3K[1] if two else first_2M[1]
    return events, candidates, shifts, w_event, w_product, slopes[0], w_second, inner_3K[2], slopes[1], last


def _beside_zeros(slope_M: Tensor) -> Tensor:
    """[3, M], as the numbers of an activation are: no others than slopes learn."""
    zeros_M = torch.zeros_like(slope_M)
    return torch.stack([slope_M, zeros_M, zeros_M])
