"""Scaled dot-product attention in fp32 on a CPU, without the scores in memory.

torch's path for CPUs works in blocks by a library's products, too small for it to be fast at. SASRec (d 64, 2 blocks,
24,500 events a step) on one AVX2 core: 71 ms a step forward and backward, where torch's took 124 of 890.

Legend: B rows, L queries, T keys, H heads, d a head's width. Masks are True at real keys.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor

from seqrec_cli.kernels.attention.reference import examples, reference
from seqrec_cli.kernels.registry import (
    Kernel,
    Source,
    check_memory,
    flop_formula,
    operator,
    product_format,
    products_in_c,
)

LONGEST = 4096  # keys: scores of 64 queries, and as many gradients, are to stay in a cache
WIDEST = 512  # d


class _Heads(ctypes.Structure):
    _fields_ = (("at", ctypes.c_void_p), *((name, ctypes.c_long) for name in ("row", "head", "step")))


class _Problem(ctypes.Structure):
    _fields_ = (
        *((name, _Heads) for name in ("q", "k", "v", "out")),
        ("real", ctypes.c_void_p),
        ("moments", ctypes.c_void_p),
        *((name, ctypes.c_long) for name in ("rows", "count", "queries", "keys", "width")),
        ("causal", ctypes.c_int),
        ("scale", ctypes.c_float),
        ("threads", ctypes.c_int),
    )


_PROBLEM = ctypes.POINTER(_Problem)
SOURCE = Source(__file__, attention=(_PROBLEM,), attention_backward=(_PROBLEM, _PROBLEM))


def usable(q_BHLd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor, *, mask_BT: Tensor | None, causal: bool) -> bool:
    """Whether the C code is for these: products in fp32 on a CPU, in eager mode, where they are made in C. One query of
    each row is left to torch, which is a tenth faster at it."""
    if q_BHLd.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    fp32 = product_format(q_BHLd) == q_BHLd.dtype == k_BHTd.dtype == v_BHTd.dtype == torch.float32
    (B, H, L, d), T = q_BHLd.shape, k_BHTd.shape[2]
    alike = k_BHTd.shape == v_BHTd.shape == (B, H, T, d) and L > 1 and 0 < T <= LONGEST and d <= WIDEST
    masked = mask_BT is None if causal else mask_BT is None or mask_BT.dtype == torch.bool
    return fp32 and alike and masked and (L == T or not causal) and products_in_c() and SOURCE.usable(torch.float32)


def attention_in_c(q_BHLd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor, mask_BT: Tensor | None, causal: bool) -> Tensor:
    """softmax(q k' / sqrt(d) + mask) v: [B, H, L, d]; a query none of whose keys is real sees all of them alike. Where
    `usable`; with `causal` the n-th query sees the first n keys."""
    attended: Tensor = _attention(q_BHLd, k_BHTd, v_BHTd, mask_BT, causal)[0]
    return attended


def _side_by_side(x: Tensor) -> Tensor:
    """x, a head's numbers one after another."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _new(like: Tensor) -> Tensor:
    """Memory for such a tensor, positions in front of heads where they are in the one given."""
    B, H, L, d = like.shape
    if like.stride(1) < like.stride(2):
        return like.new_empty((B, L, H, d)).transpose(1, 2)
    return like.new_empty((B, H, L, d))


def _heads(x: Tensor) -> _Heads:
    return _Heads(x.data_ptr(), *x.stride()[:3])


def _problem(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, mask_BT: Tensor | None, moments: Tensor | None, causal: bool
) -> _Problem:
    B, H, L, d = q.shape
    places = (None if x is None else x.data_ptr() for x in (mask_BT, moments))
    sizes = B, H, L, k.shape[2], d
    return _Problem(*map(_heads, (q, k, v, out)), *places, *sizes, causal, d**-0.5, torch.get_num_threads())


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.causal = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, output[1])


def _backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return None, None, None, None, None
    return *_attention_backward(grad, *ctx.saved_tensors, ctx.causal), None, None


@operator(lambda q, *_: (_new(q), q.new_empty((*q.shape[:3], 2))), _backward, _save)
def _attention(
    q_BHLd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor, mask_BT: Tensor | None, causal: bool
) -> tuple[Tensor, Tensor]:
    """What is attended to, and each query's largest score and 1 / sum of exponentials."""
    q, k, v = map(_side_by_side, (q_BHLd, k_BHTd, v_BHTd))
    mask_BT = None if mask_BT is None else mask_BT.expand(len(k), k.shape[2]).contiguous()
    out, moments = _new(q_BHLd), q.new_empty((*q.shape[:3], 2))
    check_memory(SOURCE.load(q.dtype).attention(_problem(q, k, v, out, mask_BT, moments, causal)))
    return out, moments


@operator(lambda grad, q, k, v, *_: (_new(q), _new(k), _new(v)))
def _attention_backward(
    grad: Tensor,
    q_BHLd: Tensor,
    k_BHTd: Tensor,
    v_BHTd: Tensor,
    mask_BT: Tensor | None,
    moments: Tensor,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    grad, q, k, v = map(_side_by_side, (grad, q_BHLd, k_BHTd, v_BHTd))
    mask_BT = None if mask_BT is None else mask_BT.expand(len(k), k.shape[2]).contiguous()
    found = _new(q_BHLd), _new(k_BHTd), _new(v_BHTd)
    into = _problem(*found, grad, None, None, causal)
    check_memory(SOURCE.load(q.dtype).attention_backward(_problem(q, k, v, grad, mask_BT, moments, causal), into))
    return found


@flop_formula(torch.ops.seqrec.attention)
def _flops(q_shape, k_shape, *rest, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    B, H, L, d = q_shape
    return 4 * B * H * L * k_shape[2] * d


@flop_formula(torch.ops.seqrec.attention_backward)
def _backward_flops(grad_shape, q_shape, k_shape, *rest, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return 2 * _flops(q_shape, k_shape)


KERNELS = (Kernel(_attention, reference, examples, formats=(torch.float32,)),)
