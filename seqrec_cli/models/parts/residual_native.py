"""A layer's output, with its bias and dropout, added to the residual stream, and the layer norm of the sum, in one pass
of C (`residual.c`), on a CPU in bf16.

Legend: D the stream's width, M the layer's inputs; leading dimensions are free.
"""

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.models.parts.draws import Draws, DrawSettings
from seqrec_cli.models.parts.linear_native import product, product_is_bf16
from seqrec_cli.models.parts.native import LONG, POINTER, compiled_for, enough, passes_for, sizes

SOURCE = Path(__file__).with_name("residual.c")


class _Parameters(ctypes.Structure):
    _fields_ = (
        ("bias", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("epsilon", ctypes.c_float),
    )


_OF, _DRAWS = ctypes.POINTER(_Parameters), ctypes.POINTER(DrawSettings)
SIGNATURES = (
    ("add", (POINTER, POINTER, _OF, POINTER, POINTER, POINTER, LONG, LONG, _DRAWS)),
    ("add_backward", (POINTER, POINTER, POINTER, POINTER, _OF, POINTER, POINTER, POINTER, LONG, LONG, _DRAWS)),
)


def in_c(x: Tensor, layer: nn.Linear, inner: Tensor) -> bool:
    """Whether the functions below are for inputs like these; else torch's operators have to do."""
    if x.dtype != torch.bfloat16 or not product_is_bf16(layer, inner):
        return False
    return x.shape[:-1] == inner.shape[:-1] and compiled_for(torch.bfloat16, SOURCE, SIGNATURES)


def added(x: Tensor, layer: nn.Linear, inner: Tensor, probability: float) -> Tensor:
    """x + dropout(layer(inner)): [..., D], of [..., D] and [..., M]."""
    made: Tensor = _Added.apply(x, product(layer, inner), layer.bias, Draws.of(probability))
    return made


def added_and_normed(
    x: Tensor, layer: nn.Linear, inner: Tensor, probability: float, norm: nn.LayerNorm
) -> tuple[Tensor, Tensor]:
    """The same, and its norm."""
    made: tuple[Tensor, Tensor] = _AddedAndNormed.apply(
        x, product(layer, inner), layer.bias, norm.weight, norm.bias, norm.eps, Draws.of(probability)
    )
    return made


class _Added(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, branch: Tensor, bias_D: Tensor, drawn: Draws) -> Tensor:
        x, branch, made = x.contiguous(), branch.contiguous(), torch.empty_like(branch)
        ctx.bias_D, ctx.drawn, ctx.passes = bias_D, drawn, passes_for(x.dtype, SOURCE, SIGNATURES)
        given, of = (x.data_ptr(), branch.data_ptr()), _parameters(bias_D)
        ctx.passes.add(*given, of, made.data_ptr(), None, None, *sizes(x), drawn.settings())
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_made = gradients[0].contiguous()
        of_branch = torch.empty_like(of_made) if ctx.drawn.dropped else of_made
        of_3D = ctx.bias_D.new_empty((3, len(ctx.bias_D)))
        enough(
            ctx.passes.add_backward(
                *(of_made.data_ptr(), None, None, None),
                _parameters(ctx.bias_D),
                *(None, of_branch.data_ptr() if ctx.drawn.dropped else None, of_3D.data_ptr()),
                *sizes(of_made),
                ctx.drawn.settings(),
            )
        )
        return of_made, of_branch, of_3D[0], None


class _AddedAndNormed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        branch: Tensor,
        bias_D: Tensor,
        scale_D: Tensor,
        shift_D: Tensor,
        epsilon: float,
        drawn: Draws,
    ) -> tuple[Tensor, Tensor]:
        x, branch = x.contiguous(), branch.contiguous()
        made, normed = torch.empty_like(x), torch.empty_like(x)
        moments = bias_D.new_empty((*x.shape[:-1], 2))
        ctx.save_for_backward(made, moments, bias_D, scale_D, shift_D)
        ctx.set_materialize_grads(False)
        ctx.epsilon, ctx.drawn, ctx.passes = epsilon, drawn, passes_for(x.dtype, SOURCE, SIGNATURES)
        ctx.passes.add(
            *(x.data_ptr(), branch.data_ptr(), _parameters(bias_D, scale_D, shift_D, epsilon)),
            *(made.data_ptr(), normed.data_ptr(), moments.data_ptr()),
            *sizes(x),
            drawn.settings(),
        )
        return made, normed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        made, moments, bias_D, scale_D, shift_D = ctx.saved_tensors
        of_made, of_normed = (None if of is None else of.contiguous() for of in gradients)
        of_x = torch.empty_like(made)
        of_branch = torch.empty_like(made) if ctx.drawn.dropped else of_x
        of_3D = bias_D.new_empty((3, len(bias_D)))
        enough(
            ctx.passes.add_backward(
                *(None if of is None else of.data_ptr() for of in (of_made, of_normed)),
                *(made.data_ptr(), moments.data_ptr(), _parameters(bias_D, scale_D, shift_D, ctx.epsilon)),
                *(of_x.data_ptr(), of_branch.data_ptr() if ctx.drawn.dropped else None, of_3D.data_ptr()),
                *sizes(made),
                ctx.drawn.settings(),
            )
        )
        return of_x, of_branch, *of_3D.unbind(), None, None


def _parameters(
    bias_D: Tensor, scale_D: Tensor | None = None, shift_D: Tensor | None = None, epsilon: float = 0.0
) -> _Parameters:
    """Addresses: the caller keeps the tensors."""
    return _Parameters(*(None if t is None else t.data_ptr() for t in (bias_D, scale_D, shift_D)), epsilon)
