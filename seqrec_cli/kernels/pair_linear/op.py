"""A linear layer over [h; c; h - c; h * c] for all pairs of events h and candidates c, without any pair written out:
W1 h + W2 c + W3 (h - c) + W4 (h * c) = (W1 + W3 + W4 diag(c)) h + (W2 - W3) c.

Each candidate gives a matrix, and below it a row of shifts: an event with a 1 behind its features, times that matrix,
is the layer's output. On a CPU matrices and their gradients are made in C.

Legend: B rows, L events, C candidates ([B, C, ...], or [C, ...] where all rows share them), F features, M width.
"""

from typing import Any

import torch
from torch import Tensor

from seqrec_cli.kernels.pair_linear.reference import examples, reference, with_one
from seqrec_cli.kernels.registry import INT, LONG, POINTER, VECTOR, Kernel, Source, addresses, flop_formula, operator

_SIZES = (*[LONG] * 4, INT)
SOURCE = Source(
    __file__,
    pair_matrices=(*[POINTER] * 5, *_SIZES),
    pair_matrices_backward=(*[POINTER] * 6, *_SIZES),
    pair_products=(*[POINTER] * 7, LONG, *_SIZES),
    pair_products_backward=(*[POINTER] * 10, LONG, LONG, *_SIZES),
)
WIDEST = 4096  # a row lies on a thread's stack
CACHED = 1 << 14  # numbers of a candidate's matrix that the nearest cache holds beside what it multiplies
TILE_COLUMNS, AT_ONCE = 2 * VECTOR, 64  # of the source


def pair_linear(
    events_BLF: Tensor, candidates: Tensor, shifts: Tensor, w_event_FM: Tensor, w_product_FM: Tensor
) -> Tensor:
    """h w_event + (h * c) w_product + shift of each event h and candidate c: [B, L, C, M].

    Candidates are [..., C, F], shifts [..., C, M].
    """
    made: Tensor
    if candidates.dim() == 3 and _usable(events_BLF, candidates, shifts):
        made = _pair_linear(events_BLF, candidates, shifts, w_event_FM, w_product_FM)
    else:
        made = reference(events_BLF, candidates, shifts, w_event_FM, w_product_FM)
    return made


def _usable(events_BLF: Tensor, *others: Tensor) -> bool:
    if events_BLF.device.type != "cpu" or others[-1].shape[-1] > WIDEST or torch.compiler.is_exporting():
        return False
    return all(x.dtype == events_BLF.dtype for x in others) and SOURCE.usable(events_BLF.dtype)


def _matrices(candidates_BCF: Tensor, shifts_BCM: Tensor | None, w_event_FM: Tensor, w_product_FM: Tensor) -> Tensor:
    """[B, F + 1, C x M], or without shifts [B, F, C x M]; the weights are fp32."""
    (B, C, F), M = candidates_BCF.shape, w_event_FM.shape[1]
    weights, candidates_BCF = [x.contiguous() for x in (w_event_FM, w_product_FM)], candidates_BCF.contiguous()
    shifts_BCM = None if shifts_BCM is None else shifts_BCM.contiguous()
    matrices = candidates_BCF.new_empty((B, F if shifts_BCM is None else F + 1, C * M))
    given = addresses(*weights, candidates_BCF, shifts_BCM, matrices)
    SOURCE.load(matrices.dtype).pair_matrices(*given, B, F, C, M, torch.get_num_threads())
    return matrices


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    *found, grad_weights = _pair_linear_backward(grad, *ctx.saved_tensors)
    return *found, *grad_weights


def _fake(events_BLF, candidates_BCF, shifts_BCM, *_):  # type: ignore[no-untyped-def]
    return events_BLF.new_empty((*events_BLF.shape[:2], *shifts_BCM.shape[1:]))


@operator(_fake, _backward, _save)
def _pair_linear(
    events_BLF: Tensor, candidates_BCF: Tensor, shifts_BCM: Tensor, w_event_FM: Tensor, w_product_FM: Tensor
) -> Tensor:
    if _cached(events_BLF, shifts_BCM):
        return _products(events_BLF, candidates_BCF, shifts_BCM, w_event_FM, w_product_FM)
    matrices = _matrices(candidates_BCF, shifts_BCM, w_event_FM, w_product_FM)
    return torch.bmm(with_one(events_BLF), matrices).unflatten(-1, shifts_BCM.shape[1:])


def _stride(count: int) -> int:
    """`STRIDE` of the source."""
    return count + -count % TILE_COLUMNS


def _cached(events_BLF: Tensor, shifts_BCM: Tensor) -> bool:
    """Whether the products are made in C too: in fp32, of matrices that stay in the nearest cache. A library's products
    of matrices so small reach half of their rate (AVX2, 1,024 pairs of 50 events, F 32, M 64: 6.2 ms by `bmm`)."""
    fits = events_BLF.shape[2] * _stride(shifts_BCM.shape[2]) <= CACHED
    return fits and events_BLF.dtype == torch.float32 and shifts_BCM.numel() > 0


def _products(
    events_BLF: Tensor, candidates_BCF: Tensor, shifts_BCM: Tensor, w_event_FM: Tensor, w_product_FM: Tensor
) -> Tensor:
    (B, L, F), (_, C, M), threads = events_BLF.shape, shifts_BCM.shape, torch.get_num_threads()
    tensors = [x.contiguous() for x in (w_event_FM, w_product_FM, events_BLF, candidates_BCF, shifts_BCM)]
    made, scratch = events_BLF.new_empty((B, L, C, M)), events_BLF.new_empty((threads, F, _stride(M)))
    SOURCE.load(torch.float32).pair_products(*addresses(*tensors, scratch, made), B, L, F, C, M, threads)
    return made


def _fake_backward(grad, events, candidates, shifts, w_event_FM, w_product_FM):  # type: ignore[no-untyped-def]
    grads = (given.new_empty(given.shape) for given in (events, candidates, shifts))
    return *grads, w_product_FM.new_empty((2, *w_product_FM.shape))


@operator(_fake_backward)
def _pair_linear_backward(
    grad_BLCM: Tensor,
    events_BLF: Tensor,
    candidates_BCF: Tensor,
    shifts_BCM: Tensor,
    w_event_FM: Tensor,
    w_product_FM: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of events, candidates and shifts, and of both weights [2, F, M].

    The matrices' are read once, where torch's operators take three passes of products and three of sums (64 rows of 16
    candidates, F 32, M 64, bf16, two cores: 0.5 ms, not 4.6).
    """
    (B, _, C, M), F, threads = grad_BLCM.shape, events_BLF.shape[2], torch.get_num_threads()
    if _cached(events_BLF, shifts_BCM):
        return _products_backward(grad_BLCM, events_BLF, candidates_BCF, shifts_BCM, w_event_FM, w_product_FM)
    grad, candidates_BCF = grad_BLCM.flatten(2).contiguous(), candidates_BCF.contiguous()
    matrices = _matrices(candidates_BCF, None, w_event_FM, w_product_FM)
    grad_events_BLF = torch.bmm(grad, matrices.transpose(1, 2))
    grad_matrices, w_product_FM = torch.bmm(with_one(events_BLF).transpose(1, 2), grad), w_product_FM.contiguous()
    grad_candidates_BCF, grad_shifts_BCM = torch.empty_like(candidates_BCF), shifts_BCM.new_empty(shifts_BCM.shape)
    partials = w_product_FM.new_zeros((threads, 2, F, M + -M % VECTOR))
    given = addresses(grad_matrices, w_product_FM, candidates_BCF, grad_candidates_BCF, grad_shifts_BCM, partials)
    SOURCE.load(grad.dtype).pair_matrices_backward(*given, B, F, C, M, threads)
    return grad_events_BLF, grad_candidates_BCF, grad_shifts_BCM, partials.sum(0)[..., :M].contiguous()


def _products_backward(
    grad_BLCM: Tensor,
    events_BLF: Tensor,
    candidates_BCF: Tensor,
    shifts_BCM: Tensor,
    w_event_FM: Tensor,
    w_product_FM: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (B, L, C, M), F, threads = grad_BLCM.shape, events_BLF.shape[2], torch.get_num_threads()
    turned_2MF = torch.stack([w_event_FM.T, w_product_FM.T])
    tensors = [x.contiguous() for x in (grad_BLCM, w_product_FM, turned_2MF, events_BLF, candidates_BCF)]
    grads = [x.new_empty(x.shape) for x in (events_BLF, candidates_BCF, shifts_BCM)]
    partials = w_product_FM.new_zeros((threads, 2, F, M + -M % VECTOR))
    each = M * _stride(F) + (F + AT_ONCE + 1) * _stride(M)
    scratch = w_product_FM.new_empty((threads, each))  # kept until the call returns
    given = addresses(*tensors, *grads, partials, scratch)
    SOURCE.load(torch.float32).pair_products_backward(*given, each, B, L, F, C, M, threads)
    return grads[0], grads[1], grads[2], partials.sum(0)[..., :M].contiguous()


@flop_formula(torch.ops.seqrec.pair_linear)
def _flops(events_shape, candidates_shape, shifts_shape, *weights, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    (B, L, F), (_, C, M) = events_shape, shifts_shape
    return 2 * B * L * (F + 1) * C * M


@flop_formula(torch.ops.seqrec.pair_linear_backward)
def _backward_flops(grad_shape, *shapes, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return 2 * _flops(*shapes)


KERNELS = (Kernel(_pair_linear, reference, examples),)
