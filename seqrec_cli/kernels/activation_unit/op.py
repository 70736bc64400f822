"""DIN's activation unit in one launch, and one for its gradients (see reference.py): no pair of event and candidate is
written to memory. In Triton, for GPUs; on a CPU `pair_linear` and `prelu_dice` do it in two passes of C.

For units of one or two hidden layers, with PReLU or sigmoids, and with Dice in evaluation: in training Dice needs the
mean over all pairs before it can go on, which is a pass over memory, and torch's operators make it.

Legend: B rows, L events, C candidates, F features, M and K widths of the hidden layers, W the last one's.
"""

from typing import Any

import torch
from torch import Tensor

from seqrec_cli.kernels.activation_unit.reference import DICE, examples, reference
from seqrec_cli.kernels.registry import (
    Kernel,
    flop_formula,
    on_tensor_cores,
    on_triton,
    operator,
    product_format,
    triton_kernels,
)

NAME = "activation_unit"
WIDEST = (64, 128, 64)  # F, M, K: all matrices and their gradients lie in a program's registers


def usable(events_BLF: Tensor, widths: tuple[int, ...], kind: int) -> bool:
    """Whether the kernel is for such a unit, on the events' device."""
    sizes = (events_BLF.shape[2], *widths)
    fits = len(sizes) <= len(WIDEST) and all(size <= most for size, most in zip(sizes, WIDEST, strict=False))
    fits = fits and (kind != DICE or not torch.is_grad_enabled())
    return fits and on_triton(NAME, events_BLF.device) and on_tensor_cores(product_format(events_BLF))


def activation_unit(
    events_BLF: Tensor,
    candidates_BCF: Tensor,
    shifts_BCM: Tensor,
    w_event_FM: Tensor,
    w_product_FM: Tensor,
    first_3M: Tensor,
    second: tuple[Tensor, Tensor, Tensor] | None,
    weight_W: Tensor,
    kind: int,
) -> Tensor:
    """The raw weights [B, L, C] in fp32, without the last layer's bias; `second` is (w_second_MK, bias_K, second_3K).
    Where `usable`. Products run in autocast's format."""
    low = product_format(events_BLF)
    inner = (None, None, None) if second is None else second
    given = events_BLF, candidates_BCF, shifts_BCM, w_event_FM, w_product_FM, first_3M, *inner, weight_W
    raw_BLC: Tensor = _activation_unit(*given, kind, low)
    return raw_BLC


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.kind, ctx.low = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    found = _activation_unit_backward(grad, *ctx.saved_tensors, ctx.kind, ctx.low)
    return *(None if x is None else g for x, g in zip(ctx.saved_tensors, found, strict=True)), None, None


def _given(tensors: tuple[Tensor | None, ...], low: torch.dtype | None) -> tuple[Tensor | None, ...]:
    """Events and w_second in the products' format, all else in fp32; dense, but for candidates and shifts by row."""
    made: list[Tensor | None] = []
    for i, x in enumerate(tensors):
        if x is not None:
            x = x.to(torch.float32 if i not in (0, 6) or low is None else low)
            x = x if i in (1, 2) and x.stride(-1) == 1 else x.contiguous()
        made.append(x)
    return tuple(made)


def _fake(events_BLF, candidates_BCF, *_):  # type: ignore[no-untyped-def]
    return events_BLF.new_empty((*events_BLF.shape[:2], candidates_BCF.shape[1]), dtype=torch.float32)


@operator(_fake, _backward, _save, device="default")
def _activation_unit(
    events_BLF: Tensor,
    candidates_BCF: Tensor,
    shifts_BCM: Tensor,
    w_event_FM: Tensor,
    w_product_FM: Tensor,
    first_3M: Tensor,
    w_second_MK: Tensor | None,
    bias_K: Tensor | None,
    second_3K: Tensor | None,
    weight_W: Tensor,
    kind: int,
    low: torch.dtype | None,
) -> Tensor:
    """[B, L, C]; `low`: the number format of products, if not fp32."""
    inner = w_second_MK, bias_K, second_3K
    given = events_BLF, candidates_BCF, shifts_BCM, w_event_FM, w_product_FM, first_3M, *inner, weight_W
    raw_BLC: Tensor = triton_kernels(NAME).forward(_given(given, low), kind)
    return raw_BLC


def _fake_backward(grad_BLC, *given):  # type: ignore[no-untyped-def]
    return tuple(grad_BLC.new_empty(0) if x is None else x.new_empty(x.shape) for x in given[:-2])


@operator(_fake_backward, device="default")
def _activation_unit_backward(
    grad_BLC: Tensor,
    events_BLF: Tensor,
    candidates_BCF: Tensor,
    shifts_BCM: Tensor,
    w_event_FM: Tensor,
    w_product_FM: Tensor,
    first_3M: Tensor,
    w_second_MK: Tensor | None,
    bias_K: Tensor | None,
    second_3K: Tensor | None,
    weight_W: Tensor,
    kind: int,
    low: torch.dtype | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients in the order of the tensors, each in its format; empty for those that are not there."""
    inner = w_second_MK, bias_K, second_3K
    given = events_BLF, candidates_BCF, shifts_BCM, w_event_FM, w_product_FM, first_3M, *inner, weight_W
    found = triton_kernels(NAME).backward(grad_BLC.float().contiguous(), _given(given, low), kind)
    return tuple(  # type: ignore[return-value]
        grad_BLC.new_empty(0) if x is None else g.to(x.dtype).clone() for x, g in zip(given, found, strict=True)
    )


@flop_formula(torch.ops.seqrec.activation_unit)
def _flops(events, candidates, shifts, w_event, w_product, first, w_second, *rest, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    (B, L, F), C, M = events, candidates[1], shifts[2]
    return 2 * B * L * C * M * (F + (1 if w_second is None else w_second[1]))


@flop_formula(torch.ops.seqrec.activation_unit_backward)
def _backward_flops(grad_shape, *shapes, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return 3 * _flops(*shapes)


FORMATS = (torch.float32, torch.bfloat16)
KERNELS = (Kernel(_activation_unit, reference, examples, formats=FORMATS, compiled=False, triton=True),)
