"""Layers' outputs plus their biases, cut into attention heads, and heads joined again, in one pass each, on a
CPU; of packed rows too (`packing.py`).

Legend: B rows, L positions, P packed positions, H heads, d a head's width, M the layer's inputs.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.kernels.linear.op import fused, linear, product
from seqrec_cli.kernels.registry import (
    POINTER,
    Kernel,
    Source,
    addresses,
    check_memory,
    operator,
    product_format,
)
from seqrec_cli.kernels.split_heads.packing import Packing
from seqrec_cli.kernels.split_heads.reference import join_examples, join_reference, split_examples, split_reference


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


_PARTS, _LAYOUT = ctypes.POINTER(POINTER), ctypes.POINTER(_Layout)
SOURCE = Source(
    __file__, split_heads=(POINTER, POINTER, _PARTS, _LAYOUT), join_heads=(_PARTS, POINTER, POINTER, _LAYOUT)
)


def pack_rows(lengths_B: Tensor, width: int, layer: nn.Linear, x: Tensor, *, step: Callable[[], int]) -> Packing | None:
    """How rows of these lengths are packed, to a multiple of `step()` positions, where that is faster: where the C code
    cuts the heads of `layer`'s output for inputs like x. None: they stay padded."""
    usable = fused(layer, x, lengths_B.shape[0] * width) and SOURCE.usable(product_format(x))  # `len` fixes a length
    return Packing.of(lengths_B, width, step()) if usable else None


def split_heads(
    layers: Sequence[nn.Linear], x: Tensor, heads: int, parts: int, packing: Packing | None = None
) -> tuple[Tensor, ...]:
    """The layers' outputs side by side, of `parts` (queries, keys, values) times H times d channels, as so many tensors
    [B, H, L, d]; x is [B, L, M], or with a packing [P, M]: positions that it leaves out are zeros. In C several layers
    are one product."""
    low = product_format(x)
    if fused(layers[0], x) and SOURCE.usable(low):
        weight, bias = _joint(layers)
        if low == torch.float32 and packing is None:  # attention in C reads heads where they lie
            return tuple(_by_heads(part, heads) for part in linear(x, weight, bias).chunk(parts, dim=-1))
        B, L = x.shape[:2] if packing is None else packing.shape
        starts_B1 = None if packing is None else packing.starts_B1
        cut: tuple[Tensor, ...] = _split_heads(product(x, weight), bias, heads, parts, B, L, starts_B1)
        return cut[:parts]
    if packing is not None:
        x = packing.unpack(x)
    channels = sum(layer.out_features for layer in layers) // parts
    found: list[Tensor] = []
    for layer in reversed(layers):  # keys and values before queries: the order in which gradients of x are summed
        found = [*layer(x).chunk(layer.out_features // channels, dim=-1), *found]
    return tuple(_by_heads(part, heads) for part in found)


def _by_heads(x_BLD: Tensor, heads: int) -> Tensor:
    """A view [B, H, L, d]; L may be 0."""
    return x_BLD.unflatten(-1, (heads, x_BLD.shape[-1] // heads)).transpose(1, 2)


def _joint(layers: Sequence[nn.Linear]) -> tuple[Tensor, Tensor]:
    """The weights and the biases, one below the other."""
    weight, bias = ([getattr(layer, name) for layer in layers] for name in ("weight", "bias"))
    return (weight[0], bias[0]) if len(layers) == 1 else (torch.cat(weight), torch.cat(bias))


def join_heads(x_BHLd: Tensor, packing: Packing | None = None) -> Tensor:
    """The heads side by side, [B, L, H d], or with a packing [P, H d]."""
    # In fp32 attention leaves heads side by side already, unless rows are packed.
    fits = x_BHLd.dtype == torch.bfloat16 or (x_BHLd.dtype == torch.float32 and packing is not None)
    if x_BHLd.device.type == "cpu" and fits and not torch.compiler.is_compiling() and SOURCE.usable(x_BHLd.dtype):
        size, starts_B1 = (0, None) if packing is None else (packing.size, packing.starts_B1)
        joined: Tensor = _join_heads(x_BHLd, size, starts_B1)
        return joined
    x_BLD = x_BHLd.transpose(1, 2).flatten(2)
    return x_BLD if packing is None else packing.pack(x_BLD)


def _split(
    x: Tensor, bias: Tensor | None, heads: int, parts: int, rows: int, steps: int, starts: Tensor | None
) -> list[Tensor]:
    x, shape = x.contiguous(), (rows, heads, steps, x.shape[-1] // parts // heads)
    made = [x.new_empty(shape) for _ in range(parts)]
    layout = _layout(made, 0 if starts is None else len(x), starts)
    SOURCE.load(x.dtype).split_heads(*addresses(x, bias), _pointers(made), layout)
    return made


def _join(parts: list[Tensor], size: int, starts: Tensor | None, sums: Tensor | None) -> Tensor:
    parts = [part.contiguous() for part in parts]
    B, H, L, d = parts[0].shape
    joined = parts[0].new_empty((*((B, L) if starts is None else (size,)), len(parts) * H * d))
    layout = _layout(parts, size, starts)
    check_memory(SOURCE.load(joined.dtype).join_heads(_pointers(parts), *addresses(joined, sums), layout))
    return joined


def _layout(parts: list[Tensor], size: int, starts: Tensor | None) -> _Layout:
    B, H, L, d = parts[0].shape
    return _Layout(B, L, len(parts), H, d, size, *addresses(starts), torch.get_num_threads())


def _pointers(tensors: list[Tensor]) -> Any:
    return (POINTER * len(tensors))(*addresses(*tensors))


def _save_split(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, _, _, ctx.parts, _, _, starts = inputs
    ctx.size = 0 if starts is None else x.shape[0]
    ctx.save_for_backward(starts)


def _backward_split(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    grad_x, grad_bias = _split_heads_backward(list(grads[: ctx.parts]), ctx.size, *ctx.saved_tensors)
    return grad_x, grad_bias, None, None, None, None, None


def _fake_split(x, bias, heads, parts, rows, steps, starts):  # type: ignore[no-untyped-def]
    shape = rows, heads, steps, x.shape[-1] // parts // heads
    return tuple(x.new_empty(shape if part < parts else 0) for part in range(3))


@operator(_fake_split, _backward_split, _save_split)
def _split_heads(
    x: Tensor, bias: Tensor, heads: int, parts: int, rows: int, steps: int, starts: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """One to three parts, and empty tensors for those that are missing."""
    q, k, v = [*_split(x, bias, heads, parts, rows, steps, starts), *(x.new_empty(0) for _ in range(3 - parts))]
    return q, k, v


def _fake_joined(grads, size, starts):  # type: ignore[no-untyped-def]
    B, H, L, d = grads[0].shape
    return grads[0].new_empty((*((B, L) if starts is None else (size,)), len(grads) * H * d))


def _fake_split_backward(grads, size, starts):  # type: ignore[no-untyped-def]
    joined = _fake_joined(grads, size, starts)
    return joined, joined.new_empty(joined.shape[-1], dtype=torch.float32)


@operator(_fake_split_backward)
def _split_heads_backward(grads: Sequence[Tensor], size: int, starts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Gradients of x and the bias."""
    sums = grads[0].new_empty(len(grads) * grads[0].shape[1] * grads[0].shape[3], dtype=torch.float32)
    return _join(list(grads), size, starts, sums), sums


def _save_join(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, _, starts = inputs
    ctx.shape = x.shape
    ctx.save_for_backward(starts)


def _backward_join(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    B, H, L, _ = ctx.shape
    return _join_heads_backward(grad, H, B, L, *ctx.saved_tensors), None, None


@operator(lambda x, size, starts: _fake_joined([x], size, starts), _backward_join, _save_join)
def _join_heads(x_BHLd: Tensor, size: int, starts: Tensor | None) -> Tensor:
    return _join([x_BHLd], size, starts, None)


@operator(lambda grad, H, B, L, _: grad.new_empty((B, H, L, grad.shape[-1] // H)))
def _join_heads_backward(grad: Tensor, heads: int, rows: int, steps: int, starts: Tensor | None) -> Tensor:
    return _split(grad, None, heads, 1, rows, steps, starts)[0]


KERNELS = (Kernel(_split_heads, split_reference, split_examples), Kernel(_join_heads, join_reference, join_examples))
