"""Attention whose logits have a bias, learned or made of positions and times: softmax attention, and HSTU's, which is
pointwise (Zhai et al. 2024, arXiv 2402.17152, eq. 2); see reference.py. On a GPU it is one launch forward and three
backward (`triton_kernel.py`), and without Triton, as on a CPU, its callers use torch's operators.

What else there is on a GPU: `scaled_dot_product_attention` takes a bias as a mask, whose gradient it writes out for
every row and head, and has no pointwise form; `flex_attention` has none either, nor dropout of the weights, adds a
bias's gradients atomically, and runs under torch.compile alone. So these kernels are the default where they can run, by
that reasoning and not by measurement; SEQREC_TRITON without `biased_attention` takes torch's, and
`scripts/bench_triton.py` measures all three.

Legend: B rows, H heads, L queries, T keys, d a head's width; A is B or 1, K is H or 1. Masks are True at real keys.
"""

from typing import Any

import torch
from torch import Tensor

from seqrec_cli.kernels.biased_attention.reference import examples, reference
from seqrec_cli.kernels.registry import Kernel, flop_formula, on_tensor_cores, on_triton, operator, triton_kernels

NAME = "biased_attention"
WIDEST = 128  # d


def usable(q_BHLd: Tensor) -> bool:
    """Whether the kernel is for queries like these; one query a row is a product of vectors, better left to torch."""
    fits = q_BHLd.shape[-1] <= WIDEST and q_BHLd.shape[2] > 1
    return fits and on_triton(NAME, q_BHLd.device) and on_tensor_cores(q_BHLd.dtype)


def biased_attention(
    q_BHLd: Tensor,
    k_BHTd: Tensor,
    v_BHTd: Tensor,
    bias_AKLT: Tensor,
    *,
    mask_BT: Tensor | None,
    causal: bool,
    scale: float,
    pointwise: bool,
    drop: float = 0.0,
) -> Tensor:
    """[B, H, L, d]: softmax(scale q k' + bias) v, or pointwise silu(scale q k' + bias) v, over the keys that are real
    and, if `causal`, no later than the query. `drop` is the dropout of the softmax's weights. Where `usable`."""
    # Drawn on the device: the host waits for nothing, and a CUDA graph draws anew each time.
    seed = torch.randint(2**62, (1,), device=q_BHLd.device) if drop else None
    given = q_BHLd, k_BHTd.to(q_BHLd.dtype), v_BHTd.to(q_BHLd.dtype), bias_AKLT, mask_BT, seed
    out_BHLd: Tensor = _biased_attention(*given, causal, scale, pointwise, drop)[0]
    return out_BHLd


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.causal, ctx.scale, ctx.pointwise, ctx.drop = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *output)


def _backward(ctx: Any, grad: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 10
    with_bias = ctx.needs_input_grad[3]
    how = with_bias, ctx.causal, ctx.scale, ctx.pointwise, ctx.drop
    *grads, grad_bias = _biased_attention_backward(grad, *ctx.saved_tensors, *how)
    return *grads, grad_bias if with_bias else None, *(None,) * 6


def _given(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None, seed: Tensor | None) -> tuple[Any, ...]:
    mask = None if mask is None else mask.contiguous().view(torch.uint8)
    return q.contiguous(), k.contiguous(), v.contiguous(), bias, mask, seed


def _fake(q_BHLd, k, v, bias, mask, seed, causal, scale, pointwise, drop):  # type: ignore[no-untyped-def]
    kept = (*q_BHLd.shape[:2], 0 if pointwise else q_BHLd.shape[2])
    return q_BHLd.new_empty(q_BHLd.shape), *(q_BHLd.new_empty(kept, dtype=torch.float32) for _ in range(2))


@operator(_fake, _backward, _save, device="default")
def _biased_attention(
    q_BHLd: Tensor,
    k_BHTd: Tensor,
    v_BHTd: Tensor,
    bias_AKLT: Tensor,
    mask_BT: Tensor | None,
    seed: Tensor | None,
    causal: bool,
    scale: float,
    pointwise: bool,
    drop: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """[B, H, L, d], and for backward, of a softmax, the largest logits and the sums of exponentials [B, H, L]."""
    given = _given(q_BHLd, k_BHTd, v_BHTd, bias_AKLT, mask_BT, seed)
    found: tuple[Tensor, Tensor, Tensor] = triton_kernels(NAME).forward(*given, causal, scale, pointwise, drop)
    return found


def _fake_backward(grad, q, k, v, bias, mask, seed, out, most, total, with_bias, *_):  # type: ignore[no-untyped-def]
    grad_bias = bias.new_empty(bias.shape if with_bias else 0)
    return *(x.new_empty(x.shape) for x in (q, k, v)), grad_bias


@operator(_fake_backward, device="default")
def _biased_attention_backward(
    grad_BHLd: Tensor,
    q_BHLd: Tensor,
    k_BHTd: Tensor,
    v_BHTd: Tensor,
    bias_AKLT: Tensor,
    mask_BT: Tensor | None,
    seed: Tensor | None,
    out_BHLd: Tensor,
    most: Tensor,
    total: Tensor,
    with_bias: bool,
    causal: bool,
    scale: float,
    pointwise: bool,
    drop: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of queries, keys, values and the bias (empty unless `with_bias`)."""
    given = _given(q_BHLd, k_BHTd, v_BHTd, bias_AKLT, mask_BT, seed)
    kept, how = (out_BHLd, most, total), (with_bias, causal, scale, pointwise, drop)
    grad_BHLd = grad_BHLd.to(q_BHLd.dtype).contiguous()
    *grads, grad_bias = triton_kernels(NAME).backward(grad_BHLd, *given, kept, *how)
    return *grads, grad_bias.to(bias_AKLT.dtype)


@flop_formula(torch.ops.seqrec.biased_attention)
def _flops(q_shape, k_shape, *rest, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    (B, H, L, d), T = q_shape, k_shape[2]
    return 4 * B * H * L * T * d


@flop_formula(torch.ops.seqrec.biased_attention_backward)
def _backward_flops(grad_shape, *shapes, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return 2 * _flops(*shapes)


FORMATS = (torch.float32, torch.bfloat16)
KERNELS = (Kernel(_biased_attention, reference, examples, formats=FORMATS, compiled=False, triton=True),)
