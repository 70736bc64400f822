"""A linear layer over many rows in fp32, in C: the same small matrix meets them all and is packed once, rows are read
where they lie, and the bias's gradient is summed on the way.

Legend: D inputs, M outputs; leading dimensions are free.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.kernels.linear.reference import examples, reference
from seqrec_cli.kernels.registry import (
    POINTER,
    WIDEST,
    Kernel,
    Source,
    addresses,
    check_memory,
    flop_formula,
    operator,
    product_format,
    products_in_c,
    sizes,
)

FEWEST_ROWS = 256  # for fewer rows the packing and the call cost too much


class _Sizes(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_long),
        ("inputs", ctypes.c_long),
        ("outputs", ctypes.c_long),
        ("threads", ctypes.c_int),
    )


_SIZES = ctypes.POINTER(_Sizes)
SOURCE = Source(
    __file__,
    linear=(*[POINTER] * 4, _SIZES),
    linear_backward_input=(*[POINTER] * 3, _SIZES),
    linear_backward_weight=(*[POINTER] * 4, _SIZES),
)


def fused(layer: nn.Linear, x: Tensor, rows: int | None = None) -> bool:
    """Whether kernels that add a layer's bias themselves pay: on a CPU, in eager mode, the bias in fp32, the output in
    bf16, or in fp32 where `in_c`. Where a library makes fp32 products, what stands between them is a few percent.

    With `rows` the layer's inputs are so many rows like those of x.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or layer.out_features > WIDEST:
        return False
    if layer.bias is None or layer.bias.dtype != torch.float32:
        return False
    return product_format(x) == torch.bfloat16 or in_c(x, layer.weight, rows)


def in_c(x: Tensor, weight_MD: Tensor, rows: int | None = None) -> bool:
    """Whether the product is made here."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    many = (sizes(x)[0] if rows is None else rows) >= FEWEST_ROWS
    fp32 = product_format(x) == x.dtype == weight_MD.dtype == torch.float32
    return many and fp32 and products_in_c() and SOURCE.usable(torch.float32)


def linear(x: Tensor, weight_MD: Tensor, bias_M: Tensor | None) -> Tensor:
    """x weight' + bias: [..., D] -> [..., M]."""
    if not in_c(x, weight_MD):
        return nn.functional.linear(x, weight_MD, bias_M)
    made: Tensor = _linear(x, weight_MD, bias_M)
    return made


def product(x: Tensor, weight_MD: Tensor) -> Tensor:
    """x weight', a layer's output without its bias."""
    return linear(x, weight_MD, None)


def _sizes(x: Tensor, weight_MD: Tensor) -> _Sizes:
    M, D = weight_MD.shape
    return _Sizes(x.numel() // max(D, 1), D, M, torch.get_num_threads())


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight_MD, bias_M = inputs
    ctx.biased = bias_M is not None
    ctx.save_for_backward(x, weight_MD)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs_x = ctx.needs_input_grad[0]
    if torch.is_grad_enabled():  # with create_graph: gradients of these gradients are asked for (RecDenoiser)
        x, weight_MD = ctx.saved_tensors
        grad_rows, rows = grad.flatten(0, -2), x.flatten(0, -2)
        return grad @ weight_MD if needs_x else None, grad_rows.T @ rows, grad_rows.sum(0) if ctx.biased else None
    grad_x, grad_weight, grad_bias = _linear_backward(grad, *ctx.saved_tensors, needs_x, ctx.biased)
    return grad_x if needs_x else None, grad_weight, grad_bias if ctx.biased else None


@operator(lambda x, weight, bias: x.new_empty((*x.shape[:-1], weight.shape[0])), _backward, _save)
def _linear(x: Tensor, weight_MD: Tensor, bias_M: Tensor | None) -> Tensor:
    x, weight_MD = x.contiguous(), weight_MD.contiguous()
    out = x.new_empty((*x.shape[:-1], len(weight_MD)))
    check_memory(SOURCE.load(x.dtype).linear(*addresses(x, weight_MD, bias_M, out), _sizes(x, weight_MD)))
    return out


def _fake_backward(grad, x, weight, needs_x, biased):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape if needs_x else 0), weight.new_empty(weight.shape), x.new_empty(len(weight) * biased)


@operator(_fake_backward)
def _linear_backward(
    grad: Tensor, x: Tensor, weight_MD: Tensor, needs_x: bool, biased: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, of the weight and of the bias; empty where there is none."""
    grad, x, weight_MD = grad.contiguous(), x.contiguous(), weight_MD.contiguous()
    functions, of = SOURCE.load(x.dtype), _sizes(x, weight_MD)
    grad_x, grad_weight = x.new_empty(x.shape if needs_x else 0), torch.empty_like(weight_MD)
    grad_bias = x.new_empty(len(weight_MD) * biased)
    if needs_x:
        check_memory(functions.linear_backward_input(*addresses(grad, weight_MD, grad_x), of))
    given = addresses(grad, x, grad_weight, grad_bias if biased else None)
    check_memory(functions.linear_backward_weight(*given, of))
    return grad_x, grad_weight, grad_bias


@flop_formula(torch.ops.seqrec.linear)
def _flops(x_shape, weight_shape, *rest, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    rows = 1
    for size in x_shape[:-1]:
        rows *= size
    return 2 * rows * weight_shape[0] * weight_shape[1]


@flop_formula(torch.ops.seqrec.linear_backward)
def _backward_flops(grad_shape, x_shape, weight_shape, needs_x, *rest, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return (1 + bool(needs_x)) * _flops(x_shape, weight_shape)


KERNELS = (Kernel(_linear, reference, examples, formats=(torch.float32,)),)
