"""Layers' output with its bias taken apart into heads, and heads put together, in one pass of C (`heads.c`), on a CPU
in bf16.

Legend: B rows, L positions, P packed positions (`parts/packing`), H heads, d a head's width, M the layer's inputs.
"""

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.models.parts.linear_native import product_is_bf16
from seqrec_cli.models.parts.native import POINTER, compiled_for, enough, passes_for
from seqrec_cli.models.parts.packing import Packing

SOURCE = Path(__file__).with_name("heads.c")


class _Layout(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_long),
        ("steps", ctypes.c_long),
        ("parts", ctypes.c_long),
        ("heads", ctypes.c_long),
        ("width", ctypes.c_long),
        ("packed", ctypes.c_long),
        ("starts", ctypes.c_void_p),
        ("threads", ctypes.c_int),
    )


_PARTS = ctypes.POINTER(POINTER)
SIGNATURES = (
    ("split_heads", (POINTER, POINTER, _PARTS, ctypes.POINTER(_Layout))),
    ("join_heads", (_PARTS, POINTER, POINTER, ctypes.POINTER(_Layout))),
)


def in_c(layer: nn.Linear, x: Tensor) -> bool:
    """Whether `heads_of` is for a layer and an input like these; else torch's operators have to do."""
    return product_is_bf16(layer, x) and compiled_for(torch.bfloat16, SOURCE, SIGNATURES)


def joins_in_c(x_BHLd: Tensor) -> bool:
    if x_BHLd.device.type != "cpu" or torch.compiler.is_compiling() or x_BHLd.dtype != torch.bfloat16:
        return False
    return compiled_for(torch.bfloat16, SOURCE, SIGNATURES)


def heads_of(
    layers: tuple[nn.Linear, ...], x: Tensor, heads: int, parts: int, packing: Packing | None = None
) -> tuple[Tensor, ...]:
    """The layers' outputs side by side, of `parts` times H times d channels, as so many tensors [B, H, L, d]; x is
    [B, L, M], or with a packing [P, M]: places that it leaves out are zeros. Several layers are one product."""
    weight, bias = (layers[0].weight, layers[0].bias) if len(layers) == 1 else _together(layers)
    split: tuple[Tensor, ...] = _Split.apply(nn.functional.linear(x, weight), bias, heads, parts, packing)
    return split


def _together(layers: tuple[nn.Linear, ...]) -> tuple[Tensor, Tensor]:
    """Their weights and biases, one layer's behind the other's."""
    return torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])


def joined(x_BHLd: Tensor, packing: Packing | None = None) -> Tensor:
    """[B, L, H d], or with a packing [P, H d]."""
    made: Tensor = _Join.apply(x_BHLd, packing)
    return made


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor, heads: int, parts: int, packing: Packing | None
    ) -> tuple[Tensor, ...]:
        ctx.channels, ctx.packing = x.shape[-1], packing
        return _split(x.contiguous(), bias, heads, parts, packing)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        sums = gradients[0].new_empty(ctx.channels, dtype=torch.float32)
        return _joined(gradients, sums, ctx.packing), sums, None, None, None


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, packing: Packing | None) -> Tensor:
        ctx.heads, ctx.packing = x.shape[1], packing
        return _joined((x,), None, packing)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return *_split(gradients[0].contiguous(), None, ctx.heads, 1, ctx.packing), None


def _split(x: Tensor, bias: Tensor | None, heads: int, parts: int, packing: Packing | None) -> tuple[Tensor, ...]:
    B, L = x.shape[:2] if packing is None else packing.shape
    shape = (B, heads, L, x.shape[-1] // parts // heads)
    made = tuple(x.new_empty(shape) for _ in range(parts))
    passes = passes_for(x.dtype, SOURCE, SIGNATURES)
    given = x.data_ptr(), None if bias is None else bias.data_ptr(), _pointers(made)
    passes.split_heads(*given, _layout(made, packing))
    return made


def _joined(parts: tuple[Tensor, ...], sums: Tensor | None, packing: Packing | None) -> Tensor:
    parts, (B, H, L, d) = tuple(part.contiguous() for part in parts), parts[0].shape
    made = parts[0].new_empty((*((B, L) if packing is None else (packing.size,)), len(parts) * H * d))
    passes = passes_for(made.dtype, SOURCE, SIGNATURES)
    into = None if sums is None else sums.data_ptr()
    enough(passes.join_heads(_pointers(parts), made.data_ptr(), into, _layout(parts, packing)))
    return made


def _layout(parts: tuple[Tensor, ...], packing: Packing | None) -> _Layout:
    B, H, L, d = parts[0].shape
    packed = (0, None) if packing is None else (packing.size, packing.starts_B1.data_ptr())
    return _Layout(B, L, len(parts), H, d, *packed, torch.get_num_threads())


def _pointers(tensors: tuple[Tensor, ...]) -> Any:
    return (POINTER * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
