"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1) on the path that is fast here, and its softmax with
dropout.

Legend: B rows, L queries, T keys, H heads, d a head's width; A is B, or 1 where all rows are alike. Masks are True at
real keys.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.kernels.attention.op import attention_in_c
from seqrec_cli.kernels.attention.op import usable as usable_in_c
from seqrec_cli.kernels.biased_attention.op import biased_attention
from seqrec_cli.kernels.biased_attention.op import usable as usable_with_bias
from seqrec_cli.kernels.dropout.op import SPEC, draw, dropout, spec
from seqrec_cli.kernels.masked_softmax_dropout.reference import additive_mask, examples, reference
from seqrec_cli.kernels.registry import LONG, POINTER, Kernel, Source, addresses, operator, sizes

LONGEST = 1 << 16  # keys: a row lies on its thread's stack


class _MaskSpec(ctypes.Structure):
    _fields_ = (
        ("real", ctypes.c_void_p),
        ("rows_each", ctypes.c_long),
        ("queries", ctypes.c_long),
        ("scale", ctypes.c_float),
    )


_ARGUMENTS = (POINTER, POINTER, POINTER, LONG, LONG, ctypes.POINTER(_MaskSpec), SPEC)
SOURCE = Source(__file__, masked_softmax_dropout=_ARGUMENTS, masked_softmax_dropout_backward=_ARGUMENTS)


def attention(
    q_BHLd: Tensor,
    k_BHTd: Tensor,
    v_BHTd: Tensor,
    *,
    causal: bool,
    mask_BT: Tensor | None,
    drop: float,
    bias_AHLT: Tensor | None = None,
) -> Tensor:
    """softmax(q k' / sqrt(d) + bias + mask) v -> [B, H, L, d]; `drop` is the dropout of the weights (0 in evaluation).

    `scaled_dot_product_attention` where it is fast: on accelerators (there a bias has a kernel of its own), and on CPUs
    in fp32 (forward and backward 13 ms against 39 ms of plain products, B=128 H=2 L=100 d=32, two cores), unless
    `kernels/attention` is faster. In bf16 on a CPU its backward pass is slow (34 against 5 ms; L=200: 51 against 19),
    and with dropout or a learned bias it has no fused path there. The softmax in C knows the masks by itself (causal,
    B=128 H=1 L=200 d=64, with dropout: 16 ms, 18 with a mask added).
    """
    if bias_AHLT is not None and usable_with_bias(q_BHLd):
        scale = q_BHLd.shape[-1] ** -0.5
        return biased_attention(
            q_BHLd, k_BHTd, v_BHTd, bias_AHLT, mask_BT=mask_BT, causal=causal, scale=scale, pointwise=False, drop=drop
        )
    plain = drop == 0.0 and bias_AHLT is None
    if plain and usable_in_c(q_BHLd, k_BHTd, v_BHTd, mask_BT=mask_BT, causal=causal):
        return attention_in_c(q_BHLd, k_BHTd, v_BHTd, mask_BT, causal)
    on_cpu, T = q_BHLd.device.type == "cpu", k_BHTd.shape[2]
    if not on_cpu or (q_BHLd.dtype == torch.float32 and plain):
        unmasked = mask_BT is None and bias_AHLT is None
        mask = None if unmasked else additive_mask(causal, mask_BT, q_BHLd, T, bias_AHLT)
        return nn.functional.scaled_dot_product_attention(
            q_BHLd, k_BHTd, v_BHTd, attn_mask=mask, dropout_p=drop, is_causal=causal and unmasked
        )
    (B, H, L, d), fused = q_BHLd.shape, usable(q_BHLd, T)
    if bias_AHLT is not None:  # differs between heads: added in a pass of its own, not written out for every row
        mask = additive_mask(causal, mask_BT, q_BHLd, T, bias_AHLT)
        logits = torch.add(mask, q_BHLd @ k_BHTd.transpose(2, 3), alpha=d**-0.5)
        return (masked_softmax_dropout(logits, drop) if fused else dropout(logits.softmax(-1), drop)) @ v_BHTd
    flat_q, flat_k, flat_v = (x.reshape(B * H, -1, d) for x in (q_BHLd, k_BHTd, v_BHTd))
    if fused:
        weights = masked_softmax_dropout(_Products.apply(flat_q, flat_k), drop, mask_BT, causal, d**-0.5)
    else:
        # Broadcast as far as it can be: a mask of keys written out for every query made this product 4 times as slow.
        mask = additive_mask(causal, mask_BT, q_BHLd, T)
        mask = mask.flatten(0, 1) if mask_BT is None else mask.expand(B, H, *mask.shape[2:]).flatten(0, 1)
        weights = dropout(torch.baddbmm(mask, flat_q, flat_k.transpose(1, 2), alpha=d**-0.5).softmax(-1), drop)
    return torch.bmm(weights, flat_v).view(B, H, L, d)


class _Products(torch.autograd.Function):
    """q k' by heads. torch's own gradient of k is made transposed, and then copied."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(q, k)
        return torch.bmm(q, k.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,), (q, k) = grads, ctx.saved_tensors
        return torch.bmm(grad, k), torch.bmm(grad.transpose(1, 2), q)


def usable(x: Tensor, keys: int) -> bool:
    """Whether the kernel is for logits of this format: in fp32 torch is no slower."""
    if torch.compiler.is_compiling() or x.device.type != "cpu" or x.dtype != torch.bfloat16 or keys > LONGEST:
        return False
    return SOURCE.usable(x.dtype)


def masked_softmax_dropout(
    logits: Tensor, probability: float, mask_BT: Tensor | None = None, causal: bool = False, scale: float = 1.0
) -> Tensor:
    """The softmax of scale x logits [..., L, T] over the keys T that are real and, if `causal`, no later than the
    query; where there are none, all have the same weight. Of the weights elements are zeroed with `probability`.

    Leading dimensions are B rows of as many heads each. Where `usable`. No mask is written out, and keys that a causal
    query does not see cost nothing.
    """
    weights: Tensor = _masked_softmax_dropout(logits, mask_BT, causal, scale, *draw(probability))[0]
    return weights


def _mask_spec(logits: Tensor, mask_BT: Tensor | None, causal: bool, scale: float) -> _MaskSpec:
    queries = logits.shape[-2] if causal else 0
    if mask_BT is None:
        return _MaskSpec(None, 1, queries, scale)
    return _MaskSpec(mask_BT.data_ptr(), max(sizes(logits)[0] // max(len(mask_BT), 1), 1), queries, scale)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, mask_BT, *ctx.how = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1] if ctx.how[-1] else output[0], mask_BT)


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    probabilities, mask_BT = ctx.saved_tensors
    return _masked_softmax_dropout_backward(grad, probabilities, mask_BT, *ctx.how), None, None, None, None, None


def _fake(logits, mask_BT, causal, scale, seed, levels):  # type: ignore[no-untyped-def]
    return logits.new_empty(logits.shape), logits.new_empty(logits.shape if levels else 0)


@operator(_fake, _backward, _save)
def _masked_softmax_dropout(
    logits: Tensor, mask_BT: Tensor | None, causal: bool, scale: float, seed: int, levels: int
) -> tuple[Tensor, Tensor]:
    """The weights and, with dropout, the probabilities before it."""
    logits, mask_BT = logits.contiguous(), None if mask_BT is None else mask_BT.contiguous()
    weights = torch.empty_like(logits)
    probabilities = torch.empty_like(logits) if levels else logits.new_empty(0)
    given = addresses(logits, probabilities if levels else weights, weights)
    mask = _mask_spec(logits, mask_BT, causal, scale)
    SOURCE.load(logits.dtype).masked_softmax_dropout(*given, *sizes(logits), mask, spec(seed, levels))
    return weights, probabilities


@operator(lambda grad_weights, *_: grad_weights.new_empty(grad_weights.shape))
def _masked_softmax_dropout_backward(
    grad_weights: Tensor,
    probabilities: Tensor,
    mask_BT: Tensor | None,
    causal: bool,
    scale: float,
    seed: int,
    levels: int,
) -> Tensor:
    grad_weights, mask_BT = grad_weights.contiguous(), None if mask_BT is None else mask_BT.contiguous()
    grad_logits = torch.empty_like(grad_weights)
    given, mask = addresses(grad_weights, probabilities, grad_logits), _mask_spec(grad_weights, mask_BT, causal, scale)
    functions = SOURCE.load(grad_weights.dtype)
    functions.masked_softmax_dropout_backward(*given, *sizes(grad_weights), mask, spec(seed, levels))
    return grad_logits


KERNELS = (Kernel(_masked_softmax_dropout, reference, examples),)
