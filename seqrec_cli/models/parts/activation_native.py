"""A layer's bias, an activation and dropout in one pass of C (`activation.c`), on a CPU in bf16.

Legend: D width, M the layer's outputs; leading dimensions are free.
"""

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.models.parts.draws import Draws, DrawSettings
from seqrec_cli.models.parts.linear_native import product, product_is_bf16
from seqrec_cli.models.parts.native import INT, LONG, POINTER, addresses, compiled_for, enough, passes_for, sizes

SOURCE = Path(__file__).with_name("activation.c")
KINDS = {"relu": 0, "leaky_relu": 1, "gelu": 2}  # as in the source
_DRAWS = ctypes.POINTER(DrawSettings)
SIGNATURES = (
    ("activate", (POINTER, POINTER, POINTER, LONG, LONG, INT, _DRAWS)),
    ("activate_backward", (POINTER, POINTER, POINTER, POINTER, POINTER, LONG, LONG, INT, _DRAWS)),
)


def in_c(layer: nn.Linear, x: Tensor) -> bool:
    """Whether `activated` is for a layer and an input like these; else torch's operators have to do."""
    return product_is_bf16(layer, x) and compiled_for(torch.bfloat16, SOURCE, SIGNATURES)


def activated(layer: nn.Linear, x: Tensor, kind: str, probability: float) -> Tensor:
    """dropout(activation(layer(x))): [..., D] -> [..., M] in bf16."""
    made: Tensor = _Activated.apply(product(layer, x), layer.bias, KINDS[kind], Draws.of(probability))
    return made


class _Activated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias_M: Tensor, kind: int, drawn: Draws) -> Tensor:
        x, made = x.contiguous(), torch.empty_like(x)
        ctx.save_for_backward(x, bias_M)
        ctx.kind, ctx.drawn, ctx.passes = kind, drawn, passes_for(x.dtype, SOURCE, SIGNATURES)
        ctx.passes.activate(*addresses(x, bias_M, made), *sizes(x), kind, drawn.settings())
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, bias_M = ctx.saved_tensors
        of_made, of_x, of_bias_M = gradients[0].contiguous(), torch.empty_like(x), torch.empty_like(bias_M)
        given = addresses(of_made, x, bias_M, of_x, of_bias_M)
        enough(ctx.passes.activate_backward(*given, *sizes(x), ctx.kind, ctx.drawn.settings()))
        return of_x, of_bias_M, None, None
