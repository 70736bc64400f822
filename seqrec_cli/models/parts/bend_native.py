"""PReLU and Dice, and the weighted sum of their outputs over channels, in C (`bend.c`), on a CPU: an element is read
once or twice forward and as often backward, and what is made of it inside is fp32 whatever the tensors are.

Legend: M channels (the last dimension); leading dimensions are free.
"""

import ctypes
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from seqrec_cli.models.parts.native import INT, LONG, POINTER, compiled_for, enough, passes_for, sizes

SOURCE = Path(__file__).with_name("bend.c")
EPSILON = 1e-8  # of Dice's variance, as in the paper
WIDEST = 4096  # channels: some rows lie on a thread's stack


class _Settings(ctypes.Structure):
    _fields_ = (
        ("moments", ctypes.c_void_p),
        ("slope", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
        ("epsilon", ctypes.c_float),
    )


_GIVEN, _SIZES = ctypes.POINTER(_Settings), (LONG, LONG, INT)
SIGNATURES = (
    ("moments", (POINTER, POINTER, POINTER, *_SIZES)),
    ("bend", (POINTER, _GIVEN, POINTER, *_SIZES)),
    ("weigh", (POINTER, POINTER, _GIVEN, POINTER, *_SIZES)),
    ("backward", (POINTER, POINTER, POINTER, POINTER, _GIVEN, INT, POINTER, POINTER, *_SIZES)),
)


def in_c(x: Tensor) -> bool:
    """Whether the passes in C are for a tensor like this; else torch's operators have to do."""
    if x.device.type != "cpu" or x.shape[-1] > WIDEST or torch.compiler.is_exporting():
        return False
    return compiled_for(x.dtype, SOURCE, SIGNATURES)


def prelu(x: Tensor, real: Tensor | None, slope_M: Tensor, weight_M: Tensor | None) -> Tensor:
    """PReLU of x [..., M], or with a weight its sum over channels [...] in fp32, 0 where `real` [...] is False."""
    made: Tensor = bend(x, _real(x, real), None, False, slope_M, weight_M)
    return made


def dice(
    x: Tensor, real: Tensor | None, moments: Tensor | None, slope_M: Tensor, weight_M: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The same of Dice, and its mean and variance [2, M], without gradient: the moments given, or, without them, those
    of the real rows, through which gradients flow."""
    own, real = moments is None, _real(x, real)
    if moments is None:
        moments = moments_of(x.detach(), real)
    made: Tensor = bend(x, real, moments, own, slope_M, weight_M)
    return made, moments


def _real(x: Tensor, real: Tensor | None) -> Tensor:
    """[...], a byte a row."""
    return x.new_ones(x.shape[:-1], dtype=torch.bool) if real is None else real.expand(x.shape[:-1]).contiguous()


@torch.library.custom_op("seqrec::moments_of", mutates_args=())
def moments_of(x: Tensor, real: Tensor) -> Tensor:
    """Mean and variance [2, M] of the real rows of x [..., M]; zeros if there are none."""
    x, moments = x.contiguous(), x.new_empty((2, x.shape[-1]), dtype=torch.float32)
    passes = passes_for(x.dtype, SOURCE, SIGNATURES)
    enough(passes.moments(x.data_ptr(), real.data_ptr(), moments.data_ptr(), *_sizes(x)))
    return moments


@torch.library.custom_op("seqrec::bend", mutates_args=())
def bend(
    x: Tensor, real: Tensor, moments: Tensor | None, own: bool, slope_M: Tensor, weight_M: Tensor | None
) -> Tensor:
    """[..., M] in x's format, or with a weight [...] in fp32. `own`: the moments are those of the real rows."""
    x, passes, given = x.contiguous(), passes_for(x.dtype, SOURCE, SIGNATURES), _settings(moments, slope_M, weight_M)
    if weight_M is None:
        made = torch.empty_like(x)
        passes.bend(x.data_ptr(), given, made.data_ptr(), *_sizes(x))
    else:
        made = x.new_empty(x.shape[:-1], dtype=torch.float32)
        passes.weigh(x.data_ptr(), real.data_ptr(), given, made.data_ptr(), *_sizes(x))
    return made


@torch.library.custom_op("seqrec::bend_backward", mutates_args=())
def bend_backward(
    of_made: Tensor,
    x: Tensor,
    real: Tensor,
    moments: Tensor | None,
    own: bool,
    slope_M: Tensor,
    weight_M: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Gradients of x, and of slope and weight [2, M]."""
    x, of_made = x.contiguous(), of_made.to(x.dtype if weight_M is None else torch.float32).contiguous()
    of_x, of_parameters = torch.empty_like(x), slope_M.new_empty((2, len(slope_M)))
    enough(
        passes_for(x.dtype, SOURCE, SIGNATURES).backward(
            *((of_made.data_ptr(), None) if weight_M is None else (None, of_made.data_ptr())),
            x.data_ptr(),
            real.data_ptr(),
            _settings(moments, slope_M, weight_M),
            int(own),
            of_x.data_ptr(),
            of_parameters.data_ptr(),
            *_sizes(x),
        )
    )
    return of_x, of_parameters


@moments_of.register_fake
def _(x, real):  # type: ignore[no-untyped-def]
    return x.new_empty((2, x.shape[-1]), dtype=torch.float32)


@bend.register_fake
def _(x, real, moments, own, slope_M, weight_M):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape) if weight_M is None else x.new_empty(x.shape[:-1], dtype=torch.float32)


@bend_backward.register_fake
def _(of_made, x, real, moments, own, slope_M, weight_M):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape), slope_M.new_empty((2, slope_M.shape[0]))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, real, moments, ctx.own, slope_M, weight_M = inputs
    ctx.save_for_backward(x, real, moments, slope_M, weight_M)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, real, moments, slope_M, weight_M = ctx.saved_tensors
    of_x, (of_slope_M, of_weight_M) = bend_backward(gradient, x, real, moments, ctx.own, slope_M, weight_M)
    return of_x, None, None, None, of_slope_M, None if weight_M is None else of_weight_M


bend.register_autograd(_backward, setup_context=_keep)


@register_flop_formula(torch.ops.seqrec.bend)
def _flops(x_shape, real, moments, own, slope, weight_shape, *, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return 0 if weight_shape is None else 2 * math.prod(x_shape)


@register_flop_formula(torch.ops.seqrec.bend_backward)
def _backward_flops(of_made, *shapes, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return 2 * _flops(*shapes)


def _settings(moments: Tensor | None, slope_M: Tensor, weight_M: Tensor | None) -> _Settings:
    """Addresses: the caller keeps the tensors."""
    return _Settings(*(None if t is None else t.data_ptr() for t in (moments, slope_M, weight_M)), EPSILON)


def _sizes(x: Tensor) -> tuple[int, int, int]:
    """Rows, channels, threads."""
    return *sizes(x), torch.get_num_threads()
