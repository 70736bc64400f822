"""A transformer's input: item vectors plus position vectors, their layer norm and dropout, in one pass over packed
events, on a CPU.

Legend: B rows, L positions, P packed events (`split_heads/packing.py`), V items, T positions, D width.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.kernels.dropout.op import SPEC, draw, spec
from seqrec_cli.kernels.embed_norm_dropout.reference import examples, reference
from seqrec_cli.kernels.registry import (
    POINTER,
    WIDEST,
    Kernel,
    Source,
    addresses,
    check_memory,
    operator,
    product_format,
)


class _Events(ctypes.Structure):
    _fields_ = (
        ("items", ctypes.c_void_p),
        ("positions", ctypes.c_void_p),
        ("rows", ctypes.c_long),
        ("channels", ctypes.c_long),
    )


class _Parameters(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("table", "mask", "positions", "scale", "shift"))


_EVENTS, _PARAMETERS = ctypes.POINTER(_Events), ctypes.POINTER(_Parameters)
SOURCE = Source(
    __file__,
    embed_norm_dropout=(_EVENTS, _PARAMETERS, ctypes.c_float, POINTER, POINTER, SPEC),
    embed_norm_dropout_backward=(_EVENTS, _PARAMETERS, POINTER, POINTER, POINTER, _PARAMETERS, SPEC),
)


def embed_norm_dropout(
    items_P: Tensor,
    positions_P: Tensor,
    table_VD: Tensor,
    mask_D: Tensor,
    table_TD: Tensor | None,
    *,
    norm: nn.LayerNorm | None,
    probability: float,
    size: int,
) -> Tensor:
    """dropout(norm(the item's vector, `mask_D` where it is negative, plus the position's)) [size, D], in the format
    of products: zeros behind P. Without a table of positions, or a norm, that step is left out."""
    scale_D, shift_D, epsilon = (None, None, 0.0) if norm is None else (norm.weight, norm.bias, norm.eps)
    given = items_P.contiguous(), positions_P.contiguous(), table_VD, mask_D, table_TD, scale_D, shift_D
    how = epsilon, size, *draw(probability), product_format(table_VD)
    if not _usable(table_VD):
        return reference(*given, *how)[0].to(how[-1])
    embedded: Tensor = _embed_norm_dropout(*given, *how)[0]
    return embedded


def _usable(table_VD: Tensor) -> bool:
    if table_VD.device.type != "cpu" or table_VD.dtype != torch.float32 or torch.compiler.is_compiling():
        return False
    return table_VD.shape[1] <= WIDEST and SOURCE.usable(product_format(table_VD))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, _, _, seed, levels, _ = inputs
    ctx.drawn = seed, levels
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, output[1])


def _backward(ctx: Any, grad: Tensor, _: None) -> tuple[Tensor | None, ...]:
    _, _, *parameters, _ = ctx.saved_tensors
    found = _embed_norm_dropout_backward(grad, *ctx.saved_tensors, *ctx.drawn)
    kept = (None if given is None else of for given, of in zip(parameters, found, strict=True))
    return None, None, *kept, None, None, None, None, None


def _fake(items_P, positions_P, table_VD, mask_D, table_TD, scale_D, shift_D, epsilon, size, seed, levels, low):  # type: ignore[no-untyped-def]
    embedded = table_VD.new_empty((size, table_VD.shape[1]), dtype=low)
    return embedded, table_VD.new_empty((0 if scale_D is None else items_P.shape[0], 2))


@operator(_fake, _backward, _save)
def _embed_norm_dropout(
    items_P: Tensor,
    positions_P: Tensor,
    table_VD: Tensor,
    mask_D: Tensor,
    table_TD: Tensor | None,
    scale_D: Tensor | None,
    shift_D: Tensor | None,
    epsilon: float,
    size: int,
    seed: int,
    levels: int,
    low: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """The embedded events in the format `low`, and the means and 1 / deviations of the events' sums."""
    embedded = table_VD.new_zeros((size, table_VD.shape[1]), dtype=low)
    moments = torch.empty((0 if scale_D is None else len(items_P), 2))
    parameters = _Parameters(*addresses(table_VD, mask_D, table_TD, scale_D, shift_D))
    given = _events(items_P, positions_P, embedded), parameters, epsilon, *addresses(embedded, moments)
    SOURCE.load(low).embed_norm_dropout(*given, spec(seed, levels))
    return embedded, moments


def _fake_backward(grad, items_P, positions_P, *given):  # type: ignore[no-untyped-def]
    return tuple(grad.new_empty(0) if x is None else x.new_empty(x.shape) for x in given[:5])


@operator(_fake_backward)
def _embed_norm_dropout_backward(
    grad: Tensor,
    items_P: Tensor,
    positions_P: Tensor,
    table_VD: Tensor,
    mask_D: Tensor,
    table_TD: Tensor | None,
    scale_D: Tensor | None,
    shift_D: Tensor | None,
    moments: Tensor,
    seed: int,
    levels: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the five parameters; empty where there is none."""
    grad, parameters = grad.contiguous(), (table_VD, mask_D, table_TD, scale_D, shift_D)
    scratch = torch.empty((len(items_P), grad.shape[1]))
    found = [None if parameter is None else torch.zeros_like(parameter) for parameter in parameters]
    given = _events(items_P, positions_P, grad), _Parameters(*addresses(*parameters))
    into = *addresses(grad, moments, scratch), _Parameters(*addresses(*found))
    check_memory(SOURCE.load(grad.dtype).embed_norm_dropout_backward(*given, *into, spec(seed, levels)))
    grad_table, grad_mask, grad_positions, grad_scale, grad_shift = (
        grad.new_empty(0) if x is None else x for x in found
    )
    return grad_table, grad_mask, grad_positions, grad_scale, grad_shift


def _events(items_P: Tensor, positions_P: Tensor, x: Tensor) -> _Events:
    return _Events(*addresses(items_P, positions_P), len(items_P), x.shape[-1])


KERNELS = (Kernel(_embed_norm_dropout, reference, examples),)
