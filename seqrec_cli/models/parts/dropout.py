"""Dropout, and the softmax of attention weights with it, whose random bits are cheap on a CPU.

`bernoulli_` draws one number an element: 10 ms for a [128, 200, 64] tensor on two cores, more than the products
around it. Here a byte serves an element. In C (`dropout.c`), where a compiler is there, bytes are drawn in the pass
that uses them, and again in backward; else eight at a time as 64-bit words, and kept. Forward and backward in bf16 on
two cores: of [6400, 256] 0.4 ms in C, 4.4 without; of softmax and dropout, [240, 107, 107], 2.2 and 2.9. With both a
step of BERT4Rec (256 wide, 4 blocks) took 1.19 s instead of 1.45.
"""

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.models.parts.draws import LEVELS, Draws, DrawSettings, dropped_levels, random_words
from seqrec_cli.models.parts.native import LONG, POINTER, addresses, compiled_for, passes_for, sizes

SOURCE = Path(__file__).with_name("dropout.c")
LONGEST = 1 << 16  # keys of the softmax in C: a row lies on its thread's stack


class _View(ctypes.Structure):
    _fields_ = (
        ("real", ctypes.c_void_p),
        ("rows_each", ctypes.c_long),
        ("queries", ctypes.c_long),
        ("scale", ctypes.c_float),
    )


_OVER_ROWS = (POINTER, POINTER, POINTER, LONG, LONG, ctypes.POINTER(_View), ctypes.POINTER(DrawSettings))
SIGNATURES = (
    ("dropout", (POINTER, POINTER, LONG, ctypes.POINTER(DrawSettings))),
    ("softmax", _OVER_ROWS),
    ("softmax_backward", _OVER_ROWS),
)


def _compiled(x: Tensor) -> ctypes.CDLL | None:
    """The passes in C for a tensor like this; None where torch's operators have to do."""
    there = x.device.type == "cpu" and compiled_for(x.dtype, SOURCE, SIGNATURES)
    return passes_for(x.dtype, SOURCE, SIGNATURES) if there else None


class _Dropout(torch.autograd.Function):
    """In C."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int, passes: ctypes.CDLL) -> Tensor:
        ctx.drawn, ctx.passes = Draws(dropped), passes
        return _drop_in_c(x, ctx.drawn, passes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _drop_in_c(gradients[0], ctx.drawn, ctx.passes), None, None


def _drop_in_c(x: Tensor, drawn: Draws, passes: ctypes.CDLL) -> Tensor:
    x = x.contiguous()
    out = torch.empty_like(x)
    passes.dropout(x.data_ptr(), out.data_ptr(), x.numel(), drawn.settings())
    return out


class _Softmax(torch.autograd.Function):
    """Over the last dimension, with dropout, in C."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        real_BT: Tensor | None,
        causal: bool,
        scale: float,
        drawn: Draws,
        passes: ctypes.CDLL,
    ) -> Tensor:
        logits = logits.contiguous()
        real_BT = None if real_BT is None else real_BT.contiguous()
        probabilities = torch.empty_like(logits)
        left = torch.empty_like(logits) if drawn.dropped else probabilities
        ctx.save_for_backward(probabilities, real_BT)
        ctx.causal, ctx.scale, ctx.drawn, ctx.passes = causal, scale, drawn, passes
        view = _view(logits, real_BT, causal, scale)
        passes.softmax(*addresses(logits, probabilities, left), *sizes(logits), view, drawn.settings())
        return left

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        probabilities, real_BT = ctx.saved_tensors
        of_left = gradients[0].contiguous()
        of_logits = torch.empty_like(of_left)
        given, view = addresses(of_left, probabilities, of_logits), _view(of_left, real_BT, ctx.causal, ctx.scale)
        ctx.passes.softmax_backward(*given, *sizes(of_left), view, ctx.drawn.settings())
        return of_logits, None, None, None, None, None


def _view(logits: Tensor, real_BT: Tensor | None, causal: bool, scale: float) -> _View:
    queries = logits.shape[-2] if causal else 0
    if real_BT is None:
        return _View(None, 1, queries, scale)
    return _View(real_BT.data_ptr(), max(sizes(logits)[0] // max(len(real_BT), 1), 1), queries, scale)


class _ByteDropout(torch.autograd.Function):
    """In torch's operators."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        n = x.numel()
        bytes_like_x = random_words((n + 7) // 8).view(torch.int8)[:n].view(x.shape)
        ctx.save_for_backward(bytes_like_x)
        ctx.dropped = dropped
        return _drop(x, bytes_like_x, dropped)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (bytes_like_x,) = ctx.saved_tensors
        return _drop(gradients[0], bytes_like_x, ctx.dropped), None


def _drop(x: Tensor, bytes_like_x: Tensor, dropped: int) -> Tensor:
    """`x` where the byte says keep, scaled. The mask has x's format: comparing into it and multiplying by it took
    0.4 ms where a mask of bools took 2.0 (bf16, [360, 71, 64], one core)."""
    mask = torch.ge(bytes_like_x, dropped - LEVELS // 2, out=torch.empty(x.shape, dtype=x.dtype))
    return mask.mul_(x).mul_(LEVELS / (LEVELS - dropped))


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Zero elements with `probability` (on a CPU rounded to 1/256) and scale the rest so that the mean stays."""
    if not training or probability == 0.0:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():  # both have a fused generator of their own
        return nn.functional.dropout(x, probability, training=True)
    dropped, passes = dropped_levels(probability), _compiled(x)
    out: Tensor = _ByteDropout.apply(x, dropped) if passes is None else _Dropout.apply(x, dropped, passes)
    return out


def softmax_in_c(dtype: torch.dtype, device: torch.device, keys: int) -> bool:
    """Whether `softmax` is for logits like these: in fp32 torch is no slower."""
    if torch.compiler.is_compiling() or device.type != "cpu" or dtype != torch.bfloat16 or keys > LONGEST:
        return False
    return compiled_for(dtype, SOURCE, SIGNATURES)


def softmax(
    logits: Tensor, probability: float, real_BT: Tensor | None = None, causal: bool = False, scale: float = 1.0
) -> Tensor:
    """Of scale x logits [..., L, T] over the keys T that are real and, if `causal`, no later than the query; where
    there are none, all have the same weight. Of the results elements are zeroed with `probability` as by `dropout`.

    Leading dimensions are B rows of as many heads each. In C, where `softmax_in_c`: no mask is written out, and keys
    that a causal query does not see cost nothing.
    """
    passes = passes_for(logits.dtype, SOURCE, SIGNATURES)
    left: Tensor = _Softmax.apply(logits, real_BT, causal, scale, Draws.of(probability), passes)
    return left


class Dropout(nn.Module):
    """`dropout` as a module: acts in training mode only."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.probability, self.training)

    @property
    def acting(self) -> float:
        """The probability with which it drops an element now."""
        return self.probability if self.training else 0.0

    def extra_repr(self) -> str:
        return f"probability={self.probability}"
