"""The cross-entropy of each query's target among all items and its gradients, in one pass, on a CPU in fp32.

Scores are made by panels of items and become exponentials, then the gradient, while they lie in a cache; torch's
products and softmax write and read them five times. One AVX2 core, 24,576 targets among 3,706 items: D 64 in 0.40 s, 85
to 90 GFLOP/s where its peak is 117; D 128 in 0.77.

Legend: N targets, D width, V items (row 0 is padding).
"""

import ctypes

import torch
from torch import Tensor

from seqrec_cli.kernels.corpus_gradients.reference import examples, reference
from seqrec_cli.kernels.registry import (
    WIDEST,
    Kernel,
    Source,
    addresses,
    check_memory,
    flop_formula,
    operator,
    products_in_c,
)

STEP = 32  # a chunk's queries are a multiple of it, on any processor


class _Corpus(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("queries", "table", "targets", "bias", "weights")),
        *((name, ctypes.c_long) for name in ("rows", "items", "width", "chunk")),
        ("threads", ctypes.c_int),
    )


class _Results(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("losses", "grad_queries", "grad_table", "grad_bias"))


SOURCE = Source(__file__, corpus_gradients=(ctypes.POINTER(_Corpus), ctypes.POINTER(_Results)))


def usable(queries_ND: Tensor, table_VD: Tensor, product_dtype: torch.dtype, *, rows: int) -> bool:
    """Whether the C code is for these tensors, products in that format, and scores of so many queries at a time."""
    fp32 = queries_ND.dtype == table_VD.dtype == product_dtype == torch.float32
    if queries_ND.device.type != "cpu" or not fp32 or torch.compiler.is_compiling() or queries_ND.shape[1] > WIDEST:
        return False
    fits = len(table_VD) > 1 and rows >= STEP * torch.get_num_threads()
    return fits and products_in_c() and SOURCE.usable(torch.float32)


def corpus_gradients(
    queries_ND: Tensor,
    table_VD: Tensor,
    targets_N: Tensor,
    *,
    bias_V: Tensor | None,
    weights_N: Tensor | None,
    rows: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The cross-entropy [N] of each query's target among items 1, 2, ..., and the gradients of its sum (weighted, where
    there are weights) by queries, table and biases. At most `rows` queries are worked on at once: their scores take
    memory.

    Where `usable`, and without autograd.
    """
    chunk = rows // torch.get_num_threads() // STEP * STEP
    bias_V, weights_N = (None if x is None else x.float() for x in (bias_V, weights_N))
    given = queries_ND, table_VD, targets_N.long(), bias_V, weights_N, chunk
    losses_N, grad_queries, grad_table, grad_bias = _corpus_gradients(*given)
    return losses_N, grad_queries, grad_table, None if bias_V is None else grad_bias


def _fake(queries_ND, table_VD, targets_N, bias_V, *_):  # type: ignore[no-untyped-def]
    grad_bias = table_VD.new_empty(0) if bias_V is None else bias_V.new_empty(bias_V.shape)
    losses_N = queries_ND.new_empty(targets_N.shape)
    return losses_N, queries_ND.new_empty(queries_ND.shape), table_VD.new_empty(table_VD.shape), grad_bias


@operator(_fake)
def _corpus_gradients(
    queries_ND: Tensor,
    table_VD: Tensor,
    targets_N: Tensor,
    bias_V: Tensor | None,
    weights_N: Tensor | None,
    chunk: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    queries, items, columns_N = queries_ND.contiguous(), table_VD[1:].contiguous(), targets_N - 1
    bias, weights = (
        None if x is None else x.contiguous() for x in (bias_V if bias_V is None else bias_V[1:], weights_N)
    )
    losses_N = queries.new_empty(len(columns_N))
    grad_queries, grad_table = (
        torch.zeros_like(queries),
        torch.zeros_like(table_VD, memory_format=torch.contiguous_format),
    )
    grad_bias = table_VD.new_zeros(0 if bias_V is None else len(bias_V))
    given = addresses(queries, items, columns_N, bias, weights)
    of = _Corpus(*given, len(queries), *items.shape, chunk, torch.get_num_threads())
    into = _Results(*addresses(losses_N, grad_queries, grad_table[1:], None if bias is None else grad_bias[1:]))
    check_memory(SOURCE.load(torch.float32).corpus_gradients(of, into))
    return losses_N, grad_queries, grad_table, grad_bias


@flop_formula(torch.ops.seqrec.corpus_gradients)
def _flops(queries_shape, table_shape, *rest, out_shape=None, **named) -> int:  # type: ignore[no-untyped-def]
    return 6 * queries_shape[0] * queries_shape[1] * (table_shape[0] - 1)


KERNELS = (Kernel(_corpus_gradients, reference, examples, formats=(torch.float32,)),)
