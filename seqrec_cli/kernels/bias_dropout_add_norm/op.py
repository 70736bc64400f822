"""A layer's output, with its bias and dropout, added to the residual stream, and the layer norm of the sum, in one pass
over the numbers, on a CPU.

Legend: D the stream's width, M the layer's inputs; leading dimensions are free.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.kernels.bias_dropout_add_norm.reference import add_examples, add_reference, examples, reference
from seqrec_cli.kernels.dropout.op import SPEC, draw, dropout, spec
from seqrec_cli.kernels.linear.op import fused, product
from seqrec_cli.kernels.registry import (
    LONG,
    POINTER,
    Kernel,
    Source,
    addresses,
    check_memory,
    operator,
    product_format,
    sizes,
)


class _Parameters(ctypes.Structure):
    _fields_ = (
        ("bias", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("epsilon", ctypes.c_float),
    )


_PARAMETERS = ctypes.POINTER(_Parameters)
SOURCE = Source(
    __file__,
    bias_dropout_add_norm=(POINTER, POINTER, _PARAMETERS, POINTER, POINTER, POINTER, LONG, LONG, SPEC),
    bias_dropout_add_norm_backward=(*[POINTER] * 4, _PARAMETERS, POINTER, POINTER, POINTER, LONG, LONG, SPEC),
)


def linear_dropout_add(x: Tensor, layer: nn.Linear, inner: Tensor, probability: float) -> Tensor:
    """x + dropout(layer(inner)): [..., D], of [..., D] and [..., M]."""
    if _usable(x, layer, inner):
        total: Tensor = _bias_dropout_add(x, product(inner, layer.weight), layer.bias, *draw(probability))
        return total
    return x + dropout(layer(inner), probability)


def linear_dropout_add_norm(
    x: Tensor, layer: nn.Linear, inner: Tensor, probability: float, norm: nn.LayerNorm
) -> tuple[Tensor, Tensor]:
    """The same sum, and its norm."""
    if _usable(x, layer, inner):
        parameters = layer.bias, norm.weight, norm.bias, norm.eps
        total, normed, _ = _bias_dropout_add_norm(x, product(inner, layer.weight), *parameters, *draw(probability))
        return total, normed
    x = x + dropout(layer(inner), probability)
    return x, norm(x)


def _usable(x: Tensor, layer: nn.Linear, inner: Tensor) -> bool:
    fits = x.dtype == product_format(inner) and fused(layer, inner) and x.shape[:-1] == inner.shape[:-1]
    return fits and SOURCE.usable(x.dtype)


def _save_sum(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, bias_D, *ctx.drawn = inputs
    ctx.save_for_backward(bias_D)


def _backward_sum(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (bias_D,) = ctx.saved_tensors
    _, grad_branch, grad_3D = _bias_dropout_add_norm_backward(grad, None, None, None, bias_D, None, *ctx.drawn)
    return grad, grad_branch if ctx.drawn[1] else grad, grad_3D[0], None, None


@operator(lambda x, *_: x.new_empty(x.shape), _backward_sum, _save_sum)
def _bias_dropout_add(x: Tensor, branch: Tensor, bias_D: Tensor, seed: int, levels: int) -> Tensor:
    """x + dropout(branch + bias)."""
    x, branch = x.contiguous(), branch.contiguous()
    total, parameters = torch.empty_like(x), _Parameters(*addresses(bias_D, None, None), 0.0)
    given = x.data_ptr(), branch.data_ptr(), parameters, total.data_ptr(), None, None
    SOURCE.load(x.dtype).bias_dropout_add_norm(*given, *sizes(x), spec(seed, levels))
    return total


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, _, bias_D, scale_D, _, _, *ctx.drawn = inputs
    total, _, moments = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(total, moments, bias_D, scale_D)


def _backward(ctx: Any, grad_sum: Tensor | None, grad_normed: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    found = _bias_dropout_add_norm_backward(grad_sum, grad_normed, *ctx.saved_tensors, *ctx.drawn)
    grad_x, grad_branch, grad_3D = found
    return grad_x, grad_branch if ctx.drawn[1] else grad_x, *grad_3D.unbind(), None, None, None


def _fake(x, branch, bias_D, *_):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape), x.new_empty(x.shape), bias_D.new_empty((*x.shape[:-1], 2))


@operator(_fake, _backward, _save)
def _bias_dropout_add_norm(
    x: Tensor, branch: Tensor, bias_D: Tensor, scale_D: Tensor, shift_D: Tensor, epsilon: float, seed: int, levels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum, its norm, and the rows' means and 1 / deviations."""
    x, branch = x.contiguous(), branch.contiguous()
    total, normed, moments = torch.empty_like(x), torch.empty_like(x), bias_D.new_empty((*x.shape[:-1], 2))
    parameters = _Parameters(*addresses(bias_D, scale_D, shift_D), epsilon)
    given = x.data_ptr(), branch.data_ptr(), parameters, *addresses(total, normed, moments)
    SOURCE.load(x.dtype).bias_dropout_add_norm(*given, *sizes(x), spec(seed, levels))
    return total, normed, moments


def _fake_backward(grad_sum, grad_normed, total, moments, bias_D, scale_D, seed, levels):  # type: ignore[no-untyped-def]
    grad = grad_normed if grad_sum is None else grad_sum
    grad_x, grad_branch = (grad.new_empty(grad.shape if there else 0) for there in (scale_D is not None, levels))
    return grad_x, grad_branch, bias_D.new_empty((3, *bias_D.shape))


@operator(_fake_backward)
def _bias_dropout_add_norm_backward(
    grad_sum: Tensor | None,
    grad_normed: Tensor | None,
    total: Tensor | None,
    moments: Tensor | None,
    bias_D: Tensor,
    scale_D: Tensor | None,
    seed: int,
    levels: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x (empty where they are those of the sum), of the branch (empty where they are those of x), and of
    bias, scale and shift [3, D]. Without a norm `total`, `moments` and `scale` are None."""
    grad_sum, grad_normed = (None if grad is None else grad.contiguous() for grad in (grad_sum, grad_normed))
    grad = grad_normed if grad_sum is None else grad_sum
    assert grad is not None
    grad_x = torch.empty_like(grad) if scale_D is not None else None
    grad_branch = torch.empty_like(grad) if levels else None
    grad_3D = bias_D.new_empty((3, len(bias_D)))
    check_memory(
        SOURCE.load(grad.dtype).bias_dropout_add_norm_backward(
            *addresses(grad_sum, grad_normed, total, moments),
            _Parameters(*addresses(bias_D, scale_D, None), 0.0),
            *addresses(grad_x, grad_branch, grad_3D),
            *sizes(grad),
            spec(seed, levels),
        )
    )
    empty = grad.new_empty(0)
    return empty if grad_x is None else grad_x, grad.new_empty(0) if grad_branch is None else grad_branch, grad_3D


KERNELS = (Kernel(_bias_dropout_add, add_reference, add_examples), Kernel(_bias_dropout_add_norm, reference, examples))
