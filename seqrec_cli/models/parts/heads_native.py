"""A layer's output with its bias taken apart into heads, and heads put together, in one pass of C (`heads.c`), on a CPU
in bf16.

Legend: B rows, L positions, H heads, d a head's width, M the layer's inputs.
"""

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.models.parts.linear_native import product, product_is_bf16
from seqrec_cli.models.parts.native import POINTER, compiled_for, enough, passes_for

SOURCE = Path(__file__).with_name("heads.c")


class _Layout(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_long),
        ("steps", ctypes.c_long),
        ("parts", ctypes.c_long),
        ("heads", ctypes.c_long),
        ("width", ctypes.c_long),
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


def heads_of(layer: nn.Linear, x_BLM: Tensor, heads: int, parts: int) -> tuple[Tensor, ...]:
    """The layer's output, of `parts` times H times d channels, as so many tensors [B, H, L, d]."""
    split: tuple[Tensor, ...] = _Split.apply(product(layer, x_BLM), layer.bias, heads, parts)
    return split


def joined(x_BHLd: Tensor) -> Tensor:
    """[B, L, H d]."""
    made: Tensor = _Join.apply(x_BHLd)
    return made


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, heads: int, parts: int) -> tuple[Tensor, ...]:
        (B, L, width), x = x.shape, x.contiguous()
        ctx.channels = width
        return _split(x, bias, (B, L, parts, heads, width // parts // heads))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        sums = gradients[0].new_empty(ctx.channels, dtype=torch.float32)
        return _joined(gradients, sums), sums, None, None


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return _joined((x,), None)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        B, H, L, d = ctx.shape
        return _split(gradients[0].contiguous(), None, (B, L, 1, H, d))


def _split(x: Tensor, bias: Tensor | None, shape: tuple[int, int, int, int, int]) -> tuple[Tensor, ...]:
    B, L, parts, H, d = shape
    made = tuple(x.new_empty((B, H, L, d)) for _ in range(parts))
    passes, layout = passes_for(x.dtype, SOURCE, SIGNATURES), _Layout(*shape, torch.get_num_threads())
    passes.split_heads(x.data_ptr(), None if bias is None else bias.data_ptr(), _pointers(made), layout)
    return made


def _joined(parts: tuple[Tensor, ...], sums: Tensor | None) -> Tensor:
    parts, (B, H, L, d) = tuple(part.contiguous() for part in parts), parts[0].shape
    made = parts[0].new_empty((B, L, len(parts) * H * d))
    passes = passes_for(made.dtype, SOURCE, SIGNATURES)
    layout = _Layout(B, L, len(parts), H, d, torch.get_num_threads())
    into = None if sums is None else sums.data_ptr()
    enough(passes.join_heads(_pointers(parts), made.data_ptr(), into, layout))
    return made


def _pointers(tensors: tuple[Tensor, ...]) -> Any:
    return (POINTER * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
