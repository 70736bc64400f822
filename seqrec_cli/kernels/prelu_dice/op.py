"""PReLU and Dice (Zhou et al. 2018, 1706.06978, eq. 4), and the weighted sum of their outputs over channels. In C, on a
CPU, an element is read once or twice forward and as often backward, in fp32 whatever the tensors' format.

Legend: M channels (the last dimension); leading dimensions are free. `real` [...] is False at padding.
"""

import ctypes
import math
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.kernels.prelu_dice.reference import EPSILON, channel_moments, dice_reference, examples, reference
from seqrec_cli.kernels.registry import (
    INT,
    LONG,
    POINTER,
    Kernel,
    Source,
    addresses,
    check_memory,
    flop_formula,
    operator,
    sizes,
)

WIDEST = 4096  # channels: some rows lie on a thread's stack


class _Settings(ctypes.Structure):
    _fields_ = (
        ("moments", ctypes.c_void_p),
        ("slope", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
        ("epsilon", ctypes.c_float),
    )


_GIVEN, _SIZES = ctypes.POINTER(_Settings), (LONG, LONG, INT)
SOURCE = Source(
    __file__,
    moments=(POINTER, POINTER, POINTER, *_SIZES),
    prelu_dice=(POINTER, _GIVEN, POINTER, *_SIZES),
    prelu_dice_weighted=(POINTER, POINTER, _GIVEN, POINTER, *_SIZES),
    prelu_dice_backward=(*[POINTER] * 4, _GIVEN, INT, POINTER, POINTER, *_SIZES),
)


def prelu(x: Tensor, slope_M: Tensor, real: Tensor | None = None, weight_M: Tensor | None = None) -> Tensor:
    """PReLU of x [..., M], or with a weight its weighted sum over channels [...], any number where `real` is False."""
    if _usable(x):
        y: Tensor = _prelu_dice(x, _all_or(real, x), None, False, slope_M, weight_M)
        return y
    return _weighted(nn.functional.prelu(x.flatten(0, -2), slope_M.to(x.dtype)).view_as(x), weight_M)


def dice(
    x: Tensor,
    slope_M: Tensor,
    real: Tensor | None,
    weight_M: Tensor | None = None,
    moments: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The same of Dice, and the mean and variance [2, M] that it used: the `moments` given, or, without them, those of
    the real rows, through which gradients flow."""
    if not _usable(x):
        moments = channel_moments(x, real) if moments is None else moments
        return _weighted(dice_reference(x, moments, slope_M), weight_M), moments
    own, real = moments is None, _all_or(real, x)
    if moments is None:
        moments = _moments(x.detach(), real)
    return _prelu_dice(x, real, moments, own, slope_M, weight_M), moments


def _usable(x: Tensor) -> bool:
    if x.device.type != "cpu" or x.shape[-1] > WIDEST or torch.compiler.is_exporting():
        return False
    return SOURCE.usable(x.dtype)


def _all_or(real: Tensor | None, x: Tensor) -> Tensor:
    """[...], a byte a row."""
    return x.new_ones(x.shape[:-1], dtype=torch.bool) if real is None else real.expand(x.shape[:-1]).contiguous()


def _weighted(y: Tensor, weight_M: Tensor | None) -> Tensor:
    if weight_M is None:
        return y
    if torch.compiler.is_compiling():  # a sum is fused with what is before it, a product is not
        return (y.float() * weight_M).sum(-1)
    return nn.functional.linear(y, weight_M[None]).squeeze(-1)


@operator(lambda x, real: x.new_empty((2, x.shape[-1]), dtype=torch.float32))
def _moments(x: Tensor, real: Tensor) -> Tensor:
    """Mean and variance [2, M] of the real rows of x [..., M]; zeros if there are none."""
    x, moments = x.contiguous(), x.new_empty((2, x.shape[-1]), dtype=torch.float32)
    check_memory(SOURCE.load(x.dtype).moments(*addresses(x, real, moments), *_sizes(x)))
    return moments


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, real, moments, ctx.own, slope_M, weight_M = inputs
    ctx.save_for_backward(x, real, moments, slope_M, weight_M)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, real, moments, slope_M, weight_M = ctx.saved_tensors
    grad_x, grad_2M = _prelu_dice_backward(grad, x, real, moments, ctx.own, slope_M, weight_M)
    return grad_x, None, None, None, grad_2M[0], None if weight_M is None else grad_2M[1]


def _fake(x, real, moments, own_moments, slope_M, weight_M):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape) if weight_M is None else x.new_empty(x.shape[:-1], dtype=torch.float32)


@operator(_fake, _backward, _save)
def _prelu_dice(
    x: Tensor, real: Tensor, moments: Tensor | None, own_moments: bool, slope_M: Tensor, weight_M: Tensor | None
) -> Tensor:
    """[..., M] in x's format, or with a weight [...] in fp32, 0 where `real` is False. PReLU without moments, else
    Dice; `own_moments`: they are those of the real rows."""
    x, functions, given = x.contiguous(), SOURCE.load(x.dtype), _settings(moments, slope_M, weight_M)
    if weight_M is None:
        y = torch.empty_like(x)
        functions.prelu_dice(x.data_ptr(), given, y.data_ptr(), *_sizes(x))
    else:
        y = x.new_empty(x.shape[:-1], dtype=torch.float32)
        functions.prelu_dice_weighted(*addresses(x, real), given, y.data_ptr(), *_sizes(x))
    return y


@operator(
    lambda grad, x, real, moments, own, slope_M, _: (x.new_empty(x.shape), slope_M.new_empty((2, *slope_M.shape)))
)
def _prelu_dice_backward(
    grad: Tensor,
    x: Tensor,
    real: Tensor,
    moments: Tensor | None,
    own_moments: bool,
    slope_M: Tensor,
    weight_M: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Gradients of x, and of slope and weight [2, M]."""
    x, grad = x.contiguous(), grad.to(x.dtype if weight_M is None else torch.float32).contiguous()
    grad_x, grad_2M = torch.empty_like(x), slope_M.new_empty((2, len(slope_M)))
    grad_y, grad_sums = (grad, None) if weight_M is None else (None, grad)
    check_memory(
        SOURCE.load(x.dtype).prelu_dice_backward(
            *addresses(grad_y, grad_sums, x, real),
            _settings(moments, slope_M, weight_M),
            int(own_moments),
            *addresses(grad_x, grad_2M),
            *_sizes(x),
        )
    )
    return grad_x, grad_2M


@flop_formula(torch.ops.seqrec.prelu_dice)
def _flops(x_shape, real, moments, own, slope, weight_shape, *, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return 0 if weight_shape is None else 2 * math.prod(x_shape)


@flop_formula(torch.ops.seqrec.prelu_dice_backward)
def _backward_flops(grad, *shapes, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return 2 * _flops(*shapes)


def _settings(moments: Tensor | None, slope_M: Tensor, weight_M: Tensor | None) -> _Settings:
    return _Settings(*addresses(moments, slope_M, weight_M), EPSILON)


def _sizes(x: Tensor) -> tuple[int, int, int]:
    """Rows, channels, threads."""
    return *sizes(x), torch.get_num_threads()


KERNELS = (Kernel(_prelu_dice, reference, examples),)
