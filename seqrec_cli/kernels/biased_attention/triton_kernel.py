"""Attention with a bias in tiles of queries and keys: logits are never written to memory, in backward they are made
again (FlashAttention-2, Dao 2023, arXiv 2307.08691, algorithms 1 and 2), and neither is a bias for every row and head
where they share it.

A bias's gradient sums over the rows and heads that share it. A program of its own makes a tile of it, going over all of
them, so that nothing is added atomically: its bits are the same every time.

A grid's first dimension counts rows and heads: the others hold no more than 65,535 programs.

Legend: B rows, H heads, L queries, T keys, d a head's width; A is B or 1, K is H or 1; S parts; BL, BT, BD a tile's
sizes.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from seqrec_cli.kernels.biased_attention import reference
from seqrec_cli.kernels.registry import INTERPRETED
from seqrec_cli.kernels.tiles import dot, on_device, precision, splits, tile

LOW: Any = tl.constexpr(reference.LOW)


@triton.jit
def _rows_of(x_ptr, row, places, size, d, BD: tl.constexpr):
    """Vectors [len(places), BD] of a row and head of a contiguous [B x H, size, d]."""
    dims = tl.arange(0, BD)
    at = (row.to(tl.int64) * size + places[:, None]) * d + dims[None, :]
    return tl.load(x_ptr + at, mask=(places[:, None] < size) & (dims[None, :] < d), other=0.0)


@triton.jit
def _store_rows(x_ptr, value, row, places, size, d, BD: tl.constexpr):
    dims = tl.arange(0, BD)
    at = (row.to(tl.int64) * size + places[:, None]) * d + dims[None, :]
    tl.store(x_ptr + at, value, mask=(places[:, None] < size) & (dims[None, :] < d))


@triton.jit
def _logits(
    q, k, bias_ptr, mask_ptr, row, head, queries, keys, L, T, scale, of_row, of_head, of_query, of_key,
    CAUSAL: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile's logits [BL, BT], and what of it is seen; the logits of what is not there are -inf."""
    logits = dot(q, tl.trans(k), tl.zeros((q.shape[0], k.shape[0]), tl.float32), PRECISION) * scale
    there = (queries[:, None] < L) & (keys[None, :] < T)
    at = row * of_row + head * of_head + queries[:, None].to(tl.int64) * of_query + keys[None, :] * of_key
    logits += tl.load(bias_ptr + at, mask=there, other=0.0).to(tl.float32)
    seen = there
    if CAUSAL:
        seen = seen & (keys[None, :] <= queries[:, None])
    if MASKED:
        real = tl.load(mask_ptr + row * T + keys, mask=keys < T, other=0)
        seen = seen & (real[None, :] != 0)
    return tl.where(keys[None, :] < T, tl.where(seen, logits, LOW), float("-inf")), seen


@triton.jit
def _kept(seed_ptr, row, queries, keys, T, drop):
    """1 / (1 - drop) or 0 [BL, BT]: a Philox number (Salmon et al. 2011) of the row, the query and the key."""
    drawn = tl.rand(tl.load(seed_ptr) + row, queries[:, None] * T + keys[None, :])
    return tl.where(drawn >= drop, 1.0 / (1.0 - drop), 0.0)


@triton.jit
def _forward(
    q_ptr, k_ptr, v_ptr, bias_ptr, mask_ptr, seed_ptr, out_ptr, most_ptr, total_ptr,
    H, L, T, d, scale, drop, of_row, of_head, of_query, of_key,
    POINTWISE: tl.constexpr, CAUSAL: tl.constexpr, MASKED: tl.constexpr, DROPPED: tl.constexpr,
    PRECISION: tl.constexpr, BL: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Outputs [B x H, L, d]; of a softmax also the largest logit and the sum of exp (logit - largest), [B x H, L]."""
    both, queries = tl.program_id(0), tl.program_id(1) * BL + tl.arange(0, BL)
    row, head = (both // H).to(tl.int64), (both % H).to(tl.int64)
    q = _rows_of(q_ptr, both, queries, L, d, BD)
    most, total = tl.full((BL,), float("-inf"), tl.float32), tl.zeros((BL,), tl.float32)
    out = tl.zeros((BL, BD), tl.float32)
    end = T
    if CAUSAL and not MASKED:  # else a query that sees nothing weighs all keys
        end = tl.minimum(T, (tl.program_id(1) + 1) * BL)
    for start in range(0, end, BT):
        keys = start + tl.arange(0, BT)
        k, v = _rows_of(k_ptr, both, keys, T, d, BD), _rows_of(v_ptr, both, keys, T, d, BD)
        logits, seen = _logits(
            q, k, bias_ptr, mask_ptr, row, head, queries, keys, L, T, scale, of_row, of_head, of_query, of_key,
            CAUSAL, MASKED, PRECISION,
        )  # fmt: skip
        if POINTWISE:
            weights = tl.where(seen, logits, 0.0) * tl.sigmoid(logits)
        else:
            higher = tl.maximum(most, tl.max(logits, 1))
            shrunk = tl.exp(most - higher)
            weights = tl.exp(logits - higher[:, None])
            total = total * shrunk + tl.sum(weights, 1)
            out, most = out * shrunk[:, None], higher
            if DROPPED:
                weights *= _kept(seed_ptr, both, queries, keys, T, drop)
        out = dot(weights.to(v.dtype), v, out, PRECISION)
    if not POINTWISE:
        out = out / total[:, None]
        tl.store(most_ptr + both.to(tl.int64) * L + queries, most, mask=queries < L)
        tl.store(total_ptr + both.to(tl.int64) * L + queries, total, mask=queries < L)
    _store_rows(out_ptr, out, both, queries, L, d, BD)


@triton.jit
def _saved(most_ptr, total_ptr, shares_ptr, both, queries, L, POINTWISE: tl.constexpr):
    """What forward kept of queries, and the sums of output x gradient; weights of a query that is not there are 0."""
    most, total, shares = 0.0, 1.0, 0.0
    if not POINTWISE:
        at = both.to(tl.int64) * L + queries
        most = tl.load(most_ptr + at, mask=queries < L, other=float("inf"))
        total = tl.load(total_ptr + at, mask=queries < L, other=1.0)
        shares = tl.load(shares_ptr + at, mask=queries < L, other=0.0)
    return most, total, shares


@triton.jit
def _gradients(
    q, k, v, grad, saved, bias_ptr, mask_ptr, seed_ptr, row, head, both, queries, keys,
    L, T, scale, drop, of_row, of_head, of_query, of_key,
    POINTWISE: tl.constexpr, CAUSAL: tl.constexpr, MASKED: tl.constexpr, DROPPED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The weights [BL, BT], dropped ones zero, and the logits' gradients."""
    logits, seen = _logits(
        q, k, bias_ptr, mask_ptr, row, head, queries, keys, L, T, scale, of_row, of_head, of_query, of_key,
        CAUSAL, MASKED, PRECISION,
    )  # fmt: skip
    of_weights = dot(grad.to(v.dtype), tl.trans(v), tl.zeros((q.shape[0], k.shape[0]), tl.float32), PRECISION)
    if POINTWISE:
        gate = tl.sigmoid(logits)
        logits = tl.where(seen, logits, 0.0)
        weights = logits * gate
        found = of_weights * gate * (1 + logits * (1 - gate))
    else:
        most, total, shares = saved
        weights = tl.exp(logits - most[:, None]) / total[:, None]
        if DROPPED:
            kept = _kept(seed_ptr, both, queries, keys, T, drop)
            of_weights *= kept
            found = weights * (of_weights - shares[:, None])
            weights *= kept
        else:
            found = weights * (of_weights - shares[:, None])
    return weights, tl.where(seen, found, 0.0)


@triton.jit
def _of_queries(
    q_ptr, k_ptr, v_ptr, bias_ptr, mask_ptr, seed_ptr, grad_ptr, most_ptr, total_ptr, shares_ptr, grad_q_ptr,
    H, L, T, d, scale, drop, of_row, of_head, of_query, of_key,
    POINTWISE: tl.constexpr, CAUSAL: tl.constexpr, MASKED: tl.constexpr, DROPPED: tl.constexpr,
    PRECISION: tl.constexpr, BL: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    both, queries = tl.program_id(0), tl.program_id(1) * BL + tl.arange(0, BL)
    row, head = (both // H).to(tl.int64), (both % H).to(tl.int64)
    q, grad = _rows_of(q_ptr, both, queries, L, d, BD), _rows_of(grad_ptr, both, queries, L, d, BD)
    saved = _saved(most_ptr, total_ptr, shares_ptr, both, queries, L, POINTWISE)
    grad_q = tl.zeros((BL, BD), tl.float32)
    end = T
    if CAUSAL:
        end = tl.minimum(T, (tl.program_id(1) + 1) * BL)
    for start in range(0, end, BT):
        keys = start + tl.arange(0, BT)
        k, v = _rows_of(k_ptr, both, keys, T, d, BD), _rows_of(v_ptr, both, keys, T, d, BD)
        _, found = _gradients(
            q, k, v, grad, saved, bias_ptr, mask_ptr, seed_ptr, row, head, both, queries, keys,
            L, T, scale, drop, of_row, of_head, of_query, of_key, POINTWISE, CAUSAL, MASKED, DROPPED, PRECISION,
        )  # fmt: skip
        grad_q = dot(found.to(k.dtype), k, grad_q, PRECISION)
    _store_rows(grad_q_ptr, grad_q * scale, both, queries, L, d, BD)


@triton.jit
def _of_keys(
    q_ptr, k_ptr, v_ptr, bias_ptr, mask_ptr, seed_ptr, grad_ptr, most_ptr, total_ptr, shares_ptr,
    grad_k_ptr, grad_v_ptr, H, L, T, d, scale, drop, of_row, of_head, of_query, of_key,
    POINTWISE: tl.constexpr, CAUSAL: tl.constexpr, MASKED: tl.constexpr, DROPPED: tl.constexpr,
    PRECISION: tl.constexpr, BL: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    both, keys = tl.program_id(0), tl.program_id(1) * BT + tl.arange(0, BT)
    row, head = (both // H).to(tl.int64), (both % H).to(tl.int64)
    k, v = _rows_of(k_ptr, both, keys, T, d, BD), _rows_of(v_ptr, both, keys, T, d, BD)
    grad_k, grad_v = tl.zeros((BT, BD), tl.float32), tl.zeros((BT, BD), tl.float32)
    first = 0
    if CAUSAL and not MASKED:
        first = tl.program_id(1) * BT // BL * BL
    for start in range(first, L, BL):
        queries = start + tl.arange(0, BL)
        q, grad = _rows_of(q_ptr, both, queries, L, d, BD), _rows_of(grad_ptr, both, queries, L, d, BD)
        saved = _saved(most_ptr, total_ptr, shares_ptr, both, queries, L, POINTWISE)
        weights, found = _gradients(
            q, k, v, grad, saved, bias_ptr, mask_ptr, seed_ptr, row, head, both, queries, keys,
            L, T, scale, drop, of_row, of_head, of_query, of_key, POINTWISE, CAUSAL, MASKED, DROPPED, PRECISION,
        )  # fmt: skip
        grad_v = dot(tl.trans(weights.to(grad.dtype)), grad, grad_v, PRECISION)
        grad_k = dot(tl.trans(found.to(q.dtype)), q, grad_k, PRECISION)
    _store_rows(grad_k_ptr, grad_k * scale, both, keys, T, d, BD)
    _store_rows(grad_v_ptr, grad_v, both, keys, T, d, BD)


@triton.jit
def _of_bias(
    q_ptr, k_ptr, v_ptr, bias_ptr, mask_ptr, seed_ptr, grad_ptr, most_ptr, total_ptr, shares_ptr, grad_bias_ptr,
    H, K, rows, heads, parts, each, L, T, d, scale, drop, of_row, of_head, of_query, of_key,
    POINTWISE: tl.constexpr, CAUSAL: tl.constexpr, MASKED: tl.constexpr, DROPPED: tl.constexpr,
    PRECISION: tl.constexpr, BL: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """A tile of the bias's gradient [A, K, S, L, T], over a part of the `rows` x `heads` that share it."""
    queries, keys = tl.program_id(1) * BL + tl.arange(0, BL), tl.program_id(2) * BT + tl.arange(0, BT)
    shared, part = tl.program_id(0) // parts, tl.program_id(0) % parts
    grad_bias = tl.zeros((BL, BT), tl.float32)
    if (not CAUSAL) or tl.program_id(2) * BT < (tl.program_id(1) + 1) * BL:
        for one in range(part * each, tl.minimum((part + 1) * each, rows * heads)):
            row, head = (shared // K + one // heads).to(tl.int64), (shared % K + one % heads).to(tl.int64)
            both = row * H + head
            q, grad = _rows_of(q_ptr, both, queries, L, d, BD), _rows_of(grad_ptr, both, queries, L, d, BD)
            k, v = _rows_of(k_ptr, both, keys, T, d, BD), _rows_of(v_ptr, both, keys, T, d, BD)
            saved = _saved(most_ptr, total_ptr, shares_ptr, both, queries, L, POINTWISE)
            _, found = _gradients(
                q, k, v, grad, saved, bias_ptr, mask_ptr, seed_ptr, row, head, both, queries, keys,
                L, T, scale, drop, of_row, of_head, of_query, of_key, POINTWISE, CAUSAL, MASKED, DROPPED, PRECISION,
            )  # fmt: skip
            grad_bias += found
    at = (tl.program_id(0).to(tl.int64) * L + queries[:, None]) * T + keys[None, :]
    tl.store(grad_bias_ptr + at, grad_bias, mask=(queries[:, None] < L) & (keys[None, :] < T))


def settings(d: int, itemsize: int) -> dict[str, Any]:
    """A launch's tiles. With 4 warps, or 128 queries, a tile's addresses of the bias do not fit beside it."""
    if INTERPRETED:
        return {"PRECISION": "ieee", "BL": 16, "BT": 16, "BD": tile(d, 1024)}
    return {
        "PRECISION": precision(),
        "BL": 64,
        "BT": 64 if itemsize < 4 or d <= 64 else 32,
        "BD": tile(d, 1024),
        "num_warps": 8,
        "num_stages": 2 if itemsize < 4 else 1,
    }


def _bias_strides(bias_AKLT: Tensor) -> list[int]:
    return [0 if size == 1 and i < 2 else bias_AKLT.stride(i) for i, size in enumerate(bias_AKLT.shape)]


def _switches(mask_BT: Tensor | None, causal: bool, pointwise: bool, drop: float) -> dict[str, bool]:
    return {"POINTWISE": pointwise, "CAUSAL": causal, "MASKED": mask_BT is not None, "DROPPED": drop > 0}


def forward(
    q_BHLd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor, bias_AKLT: Tensor, mask_BT: Tensor | None, seed: Tensor | None,
    causal: bool, scale: float, pointwise: bool, drop: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Outputs [B, H, L, d], and of a softmax, in fp32 [B, H, L], the largest logits and the sums of their exponentials
    less it. Queries, keys and values contiguous and of one format; masks bytes."""
    (B, H, L, d), T = q_BHLd.shape, k_BHTd.shape[2]
    out_BHLd = torch.empty_like(q_BHLd)
    most, total = (q_BHLd.new_empty((B, H, 0 if pointwise else L), dtype=torch.float32) for _ in range(2))
    chosen = settings(d, q_BHLd.element_size())
    if out_BHLd.numel():
        other = (x if x is not None else q_BHLd for x in (mask_BT, seed))
        with on_device(q_BHLd):
            _forward[(B * H, triton.cdiv(L, chosen["BL"]))](
                *(q_BHLd, k_BHTd, v_BHTd, bias_AKLT, *other, out_BHLd, most, total),
                *(H, L, T, d, scale, drop, *_bias_strides(bias_AKLT)),
                **_switches(mask_BT, causal, pointwise, drop), **chosen,
            )  # fmt: skip
    return out_BHLd, most, total


def backward(
    grad_BHLd: Tensor, q_BHLd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor, bias_AKLT: Tensor, mask_BT: Tensor | None,
    seed: Tensor | None, kept: tuple[Tensor, Tensor, Tensor], with_bias: bool,
    causal: bool, scale: float, pointwise: bool, drop: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients of queries, keys and values, and of the bias in fp32 (nothing without `with_bias`); `kept` is what
    `forward` gave."""
    (B, H, L, d), T, (out_BHLd, most, total) = q_BHLd.shape, k_BHTd.shape[2], kept
    (A, K), device = bias_AKLT.shape[:2], q_BHLd.device
    grads = [torch.zeros_like(x) if not q_BHLd.numel() else torch.empty_like(x) for x in (q_BHLd, k_BHTd, v_BHTd)]
    chosen, switches = settings(d, q_BHLd.element_size()), _switches(mask_BT, causal, pointwise, drop)
    queries, keys = triton.cdiv(L, chosen["BL"]), triton.cdiv(T, chosen["BT"])
    rows, heads = B // max(A, 1), H // max(K, 1)  # that share a bias
    each = triton.cdiv(max(rows * heads, 1), splits(queries * keys * A * K, rows * heads, device))
    parts = max(1, triton.cdiv(rows * heads, each))
    make = torch.empty if q_BHLd.numel() else torch.zeros
    grad_bias = make((A, K, parts, L, T) if with_bias else (0,), dtype=torch.float32, device=device)
    if not q_BHLd.numel():
        return grads[0], grads[1], grads[2], grad_bias.sum(2) if with_bias else grad_bias
    shares = total if pointwise else (out_BHLd.float() * grad_BHLd.float()).sum(-1)
    other = [x if x is not None else q_BHLd for x in (mask_BT, seed)]
    given = (q_BHLd, k_BHTd, v_BHTd, bias_AKLT, *other, grad_BHLd, most, total, shares)
    sizes = (L, T, d, scale, drop, *_bias_strides(bias_AKLT))
    with on_device(q_BHLd):
        _of_queries[(B * H, queries)](*given, grads[0], H, *sizes, **switches, **chosen)
        _of_keys[(B * H, keys)](*given, *grads[1:], H, *sizes, **switches, **chosen)
        if with_bias:
            _of_bias[(A * K * parts, queries, keys)](
                *given, grad_bias, H, K, rows, heads, parts, each, *sizes, **switches, **chosen
            )
    return grads[0], grads[1], grads[2], grad_bias.sum(2) if with_bias else grad_bias
