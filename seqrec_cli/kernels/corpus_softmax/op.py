"""The cross-entropy of each query's target among all items, without the scores (`triton_kernel.py`). There is no C
code: on a CPU `objectives/losses.py` works in chunks.

On a GPU a chunk's scores are written once and read five times, 12 bytes a score in 16 bits, where their products take
6 D operations. Making them twice more in place of that takes 10 D: at D 64 arithmetic on tensor cores is a fraction of
the memory's time, at 256 it is about even, and beyond `WIDEST` the chunks stay. They stay in fp32 too, unless torch may
multiply it as TF32: Triton multiplies fp32 without tensor cores, and slower than cuBLAS. By that reasoning, not by
measurement; `scripts/bench_triton.py` measures both.

Legend: N targets, D width, V items (row 0 is padding).
"""

from typing import Any

import torch
from torch import Tensor

from seqrec_cli.kernels.corpus_softmax.reference import examples, reference
from seqrec_cli.kernels.registry import Kernel, flop_formula, on_tensor_cores, on_triton, operator, triton_kernels

NAME = "corpus_softmax"
WIDEST = 256  # D: tiles of wider vectors leave no room beside them


def usable(queries_ND: Tensor, low: torch.dtype) -> bool:
    """Whether the kernel is for products in this format of queries of this width, on their device."""
    fits = queries_ND.shape[1] <= (WIDEST // 2 if low == torch.float32 else WIDEST)
    return fits and fused(queries_ND.device, low)


def fused(device: torch.device, low: torch.dtype) -> bool:
    """Whether products in this format are the kernel's there, of vectors that are not too wide."""
    return on_triton(NAME, device) and on_tensor_cores(low)


def corpus_losses(
    queries_ND: Tensor, table_VD: Tensor, targets_N: Tensor, bias_V: Tensor | None, low: torch.dtype
) -> Tensor:
    """The loss [N] of each target among items 1, 2, ..., in fp32, products in the format `low`; 0 where the target is
    0. Where `usable`. The table's gradient is summed in one order, so that it has the same bits every time."""
    losses_N: Tensor = _corpus_softmax(queries_ND, table_VD, targets_N, bias_V, low)[0]
    return losses_N


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.low = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, output[1])


def _backward(ctx: Any, grad_N: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad_N is None:
        return None, None, None, None, None
    *tensors, sums_N = ctx.saved_tensors
    grad_queries, grad_table, grad_bias = _corpus_softmax_backward(grad_N, *tensors, sums_N, ctx.low)
    return grad_queries, grad_table, None, None if tensors[3] is None else grad_bias, None


def _fake(queries_ND, table_VD, targets_N, bias_V, low):  # type: ignore[no-untyped-def]
    return tuple(queries_ND.new_empty(targets_N.shape, dtype=torch.float32) for _ in range(2))


def _given(
    queries_ND: Tensor, table_VD: Tensor, targets_N: Tensor, bias_V: Tensor | None, low: torch.dtype | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    low = queries_ND.dtype if low is None else low
    queries, table = (x.to(low).contiguous() for x in (queries_ND, table_VD))
    return queries, table, targets_N.contiguous(), None if bias_V is None else bias_V.float().contiguous()


@operator(_fake, _backward, _save, device="default")
def _corpus_softmax(
    queries_ND: Tensor, table_VD: Tensor, targets_N: Tensor, bias_V: Tensor | None, low: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    """Losses and log sum exp [N]; `low`: the number format of products, if not the queries' own."""
    found: tuple[Tensor, Tensor] = triton_kernels(NAME).forward(*_given(queries_ND, table_VD, targets_N, bias_V, low))
    return found


def _fake_backward(grad_N, queries_ND, table_VD, targets_N, bias_V, sums_N, low):  # type: ignore[no-untyped-def]
    grad_bias = table_VD.new_empty(0) if bias_V is None else torch.empty_like(bias_V)
    return queries_ND.new_empty(queries_ND.shape), table_VD.new_empty(table_VD.shape), grad_bias


@operator(_fake_backward, device="default")
def _corpus_softmax_backward(
    grad_N: Tensor,
    queries_ND: Tensor,
    table_VD: Tensor,
    targets_N: Tensor,
    bias_V: Tensor | None,
    sums_N: Tensor,
    low: torch.dtype | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, table and biases (empty without), each in its tensor's format."""
    given = _given(queries_ND, table_VD, targets_N, bias_V, low)
    queries, table, bias = triton_kernels(NAME).backward(grad_N.contiguous(), *given, sums_N)
    biases = table_VD.new_empty(0) if bias_V is None else bias.to(bias_V.dtype)
    return queries.to(queries_ND.dtype), table.to(table_VD.dtype), biases


def scratch_bytes(num_items: int, targets: int, processors: int = 132) -> int:
    """Memory of the parts that sums over items are cut into: two numbers a target and part."""
    return 2 * 4 * targets * max(1, min(16, -(-2 * processors * 128 // max(targets, 1)), -(-num_items // 128)))


@flop_formula(torch.ops.seqrec.corpus_softmax)
def _flops(queries_shape, table_shape, *rest, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return 2 * queries_shape[0] * queries_shape[1] * table_shape[0]


@flop_formula(torch.ops.seqrec.corpus_softmax_backward)
def _backward_flops(grad_shape, *shapes, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return 4 * _flops(*shapes)


KERNELS = (
    Kernel(_corpus_softmax, reference, examples, formats=(torch.float32, torch.bfloat16), compiled=False, triton=True),
)
