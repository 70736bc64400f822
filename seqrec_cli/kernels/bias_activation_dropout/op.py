"""A layer's bias, an activation and dropout in one pass over its output, on a CPU.

Legend: D width, M the layer's outputs; leading dimensions are free.
"""

from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.kernels.bias_activation_dropout.reference import ACTIVATIONS, examples, reference
from seqrec_cli.kernels.dropout.op import SPEC, draw, dropout, spec
from seqrec_cli.kernels.linear.op import fused, product
from seqrec_cli.kernels.registry import (
    INT,
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

SOURCE = Source(
    __file__,
    bias_activation_dropout=(POINTER, POINTER, POINTER, LONG, LONG, INT, SPEC),
    bias_activation_dropout_backward=(POINTER, POINTER, POINTER, POINTER, POINTER, LONG, LONG, INT, SPEC),
)


def linear_activation_dropout(layer: nn.Linear, x: Tensor, activation: str, probability: float) -> Tensor:
    """dropout(activation(layer(x))): [..., D] -> [..., M]; `activation` is one of ACTIVATIONS."""
    if fused(layer, x) and SOURCE.usable(product_format(x)):
        kind = list(ACTIVATIONS).index(activation)
        made: Tensor = _bias_activation_dropout(product(x, layer.weight), layer.bias, kind, *draw(probability))
        return made
    return dropout(ACTIVATIONS[activation](layer(x)), probability)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, bias_M, *ctx.how = inputs
    ctx.save_for_backward(x, bias_M)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *_bias_activation_dropout_backward(grad, *ctx.saved_tensors, *ctx.how), None, None, None


@operator(lambda x, *_: x.new_empty(x.shape), _backward, _save)
def _bias_activation_dropout(x: Tensor, bias_M: Tensor, activation: int, seed: int, levels: int) -> Tensor:
    x = x.contiguous()
    out, functions = torch.empty_like(x), SOURCE.load(x.dtype)
    functions.bias_activation_dropout(*addresses(x, bias_M, out), *sizes(x), activation, spec(seed, levels))
    return out


@operator(lambda grad, x, bias_M, *_: (x.new_empty(x.shape), bias_M.new_empty(bias_M.shape)))
def _bias_activation_dropout_backward(
    grad: Tensor, x: Tensor, bias_M: Tensor, activation: int, seed: int, levels: int
) -> tuple[Tensor, Tensor]:
    x, grad = x.contiguous(), grad.contiguous()
    grad_x, grad_bias_M = torch.empty_like(x), torch.empty_like(bias_M)
    given = addresses(grad, x, bias_M, grad_x, grad_bias_M)
    functions = SOURCE.load(x.dtype)
    check_memory(functions.bias_activation_dropout_backward(*given, *sizes(x), activation, spec(seed, levels)))
    return grad_x, grad_bias_M


KERNELS = (Kernel(_bias_activation_dropout, reference, examples),)
