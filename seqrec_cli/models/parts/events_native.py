"""What a transformer reads of each event, in one pass of C (`events.c`), on a CPU in bf16.

Legend: P packed events (`parts/packing`), V items, T places, D width.
"""

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.models.parts.draws import Draws, DrawSettings
from seqrec_cli.models.parts.linear_native import WIDEST
from seqrec_cli.models.parts.native import POINTER, addresses, compiled_for, enough, passes_for

SOURCE = Path(__file__).with_name("events.c")


class _Events(ctypes.Structure):
    _fields_ = (
        ("items", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("rows", ctypes.c_long),
        ("channels", ctypes.c_long),
    )


class _Parameters(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("table", "mask", "places", "scale", "shift"))


_OF, _IN, _DRAWS = ctypes.POINTER(_Events), ctypes.POINTER(_Parameters), ctypes.POINTER(DrawSettings)
SIGNATURES = (
    ("read_events", (_OF, _IN, ctypes.c_float, POINTER, POINTER, _DRAWS)),
    ("read_events_backward", (_OF, _IN, POINTER, POINTER, POINTER, _IN, _DRAWS)),
)


def in_c(table_VD: Tensor) -> bool:
    """Whether `read` is for a table like this; else torch's operators have to do."""
    if table_VD.device.type != "cpu" or table_VD.dtype != torch.float32 or torch.compiler.is_compiling():
        return False
    if not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") != torch.bfloat16:
        return False
    return table_VD.shape[1] <= WIDEST and compiled_for(torch.bfloat16, SOURCE, SIGNATURES)


def read(
    items_P: Tensor,
    table_VD: Tensor,
    mask_D: Tensor,
    places_P: Tensor,
    table_TD: Tensor | None,
    norm: nn.LayerNorm | None,
    probability: float,
    size: int,
) -> Tensor:
    """dropout(norm(the item's vector, `mask_D` where it is negative, and the place's)), bf16 [size, D]: zeros behind
    P. Without a table of places, or a norm, that step is left out."""
    scale_D, shift_D, epsilon = (None, None, 0.0) if norm is None else (norm.weight, norm.bias, norm.eps)
    of = items_P.contiguous(), places_P.contiguous(), size, epsilon, Draws.of(probability)
    made: Tensor = _Read.apply(*of, table_VD, mask_D, table_TD, scale_D, shift_D)
    return made


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        items_P: Tensor,
        places_P: Tensor,
        size: int,
        epsilon: float,
        drawn: Draws,
        *parameters: Tensor | None,
    ) -> Tensor:
        table_VD, moments = parameters[0], torch.empty((len(items_P), 2))
        assert table_VD is not None
        made = table_VD.new_zeros((size, table_VD.shape[1]), dtype=torch.bfloat16)
        ctx.save_for_backward(items_P, places_P, moments, *parameters)
        ctx.drawn, passes = drawn, passes_for(made.dtype, SOURCE, SIGNATURES)
        of = _events(items_P, places_P, made), _Parameters(*addresses(*parameters)), epsilon
        passes.read_events(*of, made.data_ptr(), moments.data_ptr(), drawn.settings())
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        items_P, places_P, moments, *parameters = ctx.saved_tensors
        of_made = gradients[0].contiguous()
        of_sums = torch.empty((len(items_P), of_made.shape[1]))
        into = [None if parameter is None else torch.zeros_like(parameter) for parameter in parameters]
        passes = passes_for(of_made.dtype, SOURCE, SIGNATURES)
        given = _events(items_P, places_P, of_made), _Parameters(*addresses(*parameters))
        numbers = addresses(of_made, moments, of_sums)
        enough(passes.read_events_backward(*given, *numbers, _Parameters(*addresses(*into)), ctx.drawn.settings()))
        return None, None, None, None, None, *into


def _events(items_P: Tensor, places_P: Tensor, made: Tensor) -> _Events:
    return _Events(*addresses(items_P, places_P), len(items_P), made.shape[-1])
