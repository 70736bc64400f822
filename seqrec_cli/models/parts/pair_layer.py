"""A linear layer over [h; c; h - c; h * c] for all pairs of events h and candidates c, without any pair in front of it:
W1 h + W2 c + W3 (h - c) + W4 (h * c) = (W1 + W3 + W4 diag(c)) h + (W2 - W3) c.

A candidate's kernel is that matrix, and below it that vector: an event with a 1 behind its features, times the kernel,
is the layer's output. On a CPU kernels and their gradients are made in C.

Legend: B rows, L events, C candidates ([B, C, ...], or [C, ...] where all rows share them), F features, M width.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from seqrec_cli.models.parts.native import INT, LONG, POINTER, VECTOR, addresses, compiled_for, passes_for

SOURCE = Path(__file__).with_name("pair_layer.c")
_SIZES = (*[LONG] * 4, INT)
SIGNATURES = (("kernels", (*[POINTER] * 5, *_SIZES)), ("kernels_backward", (*[POINTER] * 6, *_SIZES)))
WIDEST = 4096  # a row lies on a thread's stack


def pair_layer(
    events_BLF: Tensor, candidates: Tensor, shifts: Tensor, of_events_FM: Tensor, of_products_FM: Tensor
) -> Tensor:
    """(of_events + diag(c) of_products) h + shift of each event h and candidate c: [B, L, C, M].

    Candidates are [..., C, F], shifts [..., C, M].
    """
    if candidates.dim() == 3 and _in_c(events_BLF, candidates, shifts):
        return pairs(events_BLF, candidates, shifts, of_events_FM, of_products_FM)
    of_events, of_products = (x.to(candidates.dtype)[:, None] for x in (of_events_FM, of_products_FM))
    kernels = torch.addcmul(of_events, of_products, candidates.transpose(-1, -2)[..., None])
    kernels = torch.cat([kernels, shifts[..., None, :, :].to(kernels.dtype)], dim=-3)
    return (_with_one(events_BLF) @ kernels.flatten(-2)).unflatten(-1, kernels.shape[-2:])


def _in_c(events_BLF: Tensor, *others: Tensor) -> bool:
    if events_BLF.device.type != "cpu" or others[-1].shape[-1] > WIDEST or torch.compiler.is_exporting():
        return False
    alike = all(x.dtype == events_BLF.dtype for x in others)
    return alike and compiled_for(events_BLF.dtype, SOURCE, SIGNATURES)


def _with_one(events_BLF: Tensor) -> Tensor:
    return nn.functional.pad(events_BLF, (0, 1), value=1.0)


def _kernels(candidates_BCF: Tensor, shifts_BCM: Tensor | None, of_events_FM: Tensor, of_products_FM: Tensor) -> Tensor:
    """[B, F + 1, C x M], or without shifts [B, F, C x M]; the weights are fp32."""
    (B, C, F), M = candidates_BCF.shape, of_events_FM.shape[1]
    weights, candidates_BCF = [x.contiguous() for x in (of_events_FM, of_products_FM)], candidates_BCF.contiguous()
    shifts_BCM = None if shifts_BCM is None else shifts_BCM.contiguous()
    kernels = candidates_BCF.new_empty((B, F if shifts_BCM is None else F + 1, C * M))
    given = addresses(*weights, candidates_BCF, shifts_BCM)
    passes = passes_for(kernels.dtype, SOURCE, SIGNATURES)
    passes.kernels(*given, kernels.data_ptr(), B, F, C, M, torch.get_num_threads())
    return kernels


@torch.library.custom_op("seqrec::pairs", mutates_args=())
def pairs(
    events_BLF: Tensor, candidates_BCF: Tensor, shifts_BCM: Tensor, of_events_FM: Tensor, of_products_FM: Tensor
) -> Tensor:
    """`pair_layer` where each row has candidates of its own."""
    kernels = _kernels(candidates_BCF, shifts_BCM, of_events_FM, of_products_FM)
    return torch.bmm(_with_one(events_BLF), kernels).unflatten(-1, shifts_BCM.shape[1:])


@torch.library.custom_op("seqrec::pairs_backward", mutates_args=())
def pairs_backward(
    of_out_BLCM: Tensor,
    events_BLF: Tensor,
    candidates_BCF: Tensor,
    shifts_BCM: Tensor,
    of_events_FM: Tensor,
    of_products_FM: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of events, candidates and shifts, and of both weights [2, F, M].

    The kernels' are read once, where torch's operators take three passes of products and three of sums (64 rows of 16
    candidates, F 32, M 64, bf16, two cores: 0.5 ms, not 4.6).
    """
    (B, _, C, M), F, threads = of_out_BLCM.shape, events_BLF.shape[2], torch.get_num_threads()
    of_out, candidates_BCF = of_out_BLCM.flatten(2).contiguous(), candidates_BCF.contiguous()
    kernels = _kernels(candidates_BCF, None, of_events_FM, of_products_FM)
    of_events_BLF = torch.bmm(of_out, kernels.transpose(1, 2))
    of_kernels, of_products_FM = torch.bmm(_with_one(events_BLF).transpose(1, 2), of_out), of_products_FM.contiguous()
    of_candidates_BCF, of_shifts_BCM = torch.empty_like(candidates_BCF), shifts_BCM.new_empty(shifts_BCM.shape)
    parts = of_products_FM.new_zeros((threads, 2, F, M + -M % VECTOR))
    given = addresses(of_kernels, of_products_FM, candidates_BCF, of_candidates_BCF, of_shifts_BCM, parts)
    passes_for(of_out.dtype, SOURCE, SIGNATURES).kernels_backward(*given, B, F, C, M, threads)
    return of_events_BLF, of_candidates_BCF, of_shifts_BCM, parts.sum(0)[..., :M].contiguous()


@pairs.register_fake
def _(events_BLF, candidates_BCF, shifts_BCM, of_events_FM, of_products_FM):  # type: ignore[no-untyped-def]
    return events_BLF.new_empty((*events_BLF.shape[:2], *shifts_BCM.shape[1:]))


@pairs_backward.register_fake
def _(of_out, events, candidates, shifts, of_events_FM, of_products_FM):  # type: ignore[no-untyped-def]
    made = (given.new_empty(given.shape) for given in (events, candidates, shifts))
    return *made, of_products_FM.new_empty((2, *of_products_FM.shape))


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
    *found, of_weights = pairs_backward(gradient, *ctx.saved_tensors)
    return *found, *of_weights


pairs.register_autograd(_backward, setup_context=_keep)


@register_flop_formula(torch.ops.seqrec.pairs)
def _flops(events_shape, candidates_shape, shifts_shape, *weights, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    (B, L, F), (_, C, M) = events_shape, shifts_shape
    return 2 * B * L * (F + 1) * C * M


@register_flop_formula(torch.ops.seqrec.pairs_backward)
def _backward_flops(of_out_shape, *shapes, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return 2 * _flops(*shapes)
