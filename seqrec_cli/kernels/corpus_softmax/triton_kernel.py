"""The softmax over the corpus in tiles of queries and items: no score is written to memory.

Forward keeps a running maximum and sum (Milakov & Gimelshein 2018, arXiv 1805.02867, algorithm 3) and the target's own
score; backward makes the scores again, once for the queries' gradient and once for the table's, which has the sum over
all queries and so needs no atomic additions: its bits are the same every time. As Cut Cross-Entropy (Wijmans et al.
2025, arXiv 2411.09009, algorithms 1 to 3) without its filter, which drops gradients below 2^-12: of a million items
most are that small, and their sum is not.

Loops over items or queries are cut where there are fewer tiles than processors; the parts are summed by torch.

Legend: N targets, D width, V items (row 0 is padding), S parts; BN, BV, BD a tile's sizes.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from seqrec_cli.kernels.registry import INTERPRETED
from seqrec_cli.kernels.tiles import dot, on_device, precision, splits, tile

GAIN = 1024.0  # of the probabilities in 16 bits: in fp16 those of a large catalogue would vanish


@triton.jit
def _tile_of(x_ptr, rows, end, D, BD: tl.constexpr):
    """Rows of a contiguous [., D] up to `end`, [len(rows), BD]."""
    dims = tl.arange(0, BD)
    inside = (rows[:, None] < end) & (dims[None, :] < D)
    return tl.load(x_ptr + rows[:, None].to(tl.int64) * D + dims[None, :], mask=inside, other=0.0)


@triton.jit
def _scores(q, items, bias_ptr, columns, V, HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr):
    """[BN, BV], of columns past the last item -inf."""
    none = tl.zeros((q.shape[0], items.shape[0]), tl.float32)
    scores = dot(q, tl.trans(items), none, PRECISION)
    if HAS_BIAS:
        scores += tl.load(bias_ptr + columns, mask=columns < V, other=0.0)[None, :]
    return tl.where(columns[None, :] < V, scores, float("-inf"))


@triton.jit
def _forward(
    q_ptr, table_ptr, bias_ptr, targets_ptr, sums_ptr, own_ptr, N, V, D, each,
    HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr, BN: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """log sum exp [S, N] over a part of the items, and the target's score [S, N] where it is in that part, else 0."""
    rows, part = tl.program_id(0) * BN + tl.arange(0, BN), tl.program_id(1)
    q = _tile_of(q_ptr, rows, N, D, BD)
    targets = tl.load(targets_ptr + rows, mask=rows < N, other=0)
    most = tl.full((BN,), float("-inf"), tl.float32)
    total, own = tl.zeros((BN,), tl.float32), tl.zeros((BN,), tl.float32)
    first = 1 + part * each
    for start in range(first, tl.minimum(first + each, V), BV):
        columns = start + tl.arange(0, BV)
        items = _tile_of(table_ptr, columns, V, D, BD)
        scores = _scores(q, items, bias_ptr, columns, V, HAS_BIAS, PRECISION)
        higher = tl.maximum(most, tl.max(scores, 1))
        total = total * tl.exp(most - higher) + tl.sum(tl.exp(scores - higher[:, None]), 1)
        own += tl.sum(tl.where(columns[None, :] == targets[:, None], scores, 0.0), 1)
        most = higher
    tl.store(sums_ptr + part * N + rows, most + tl.log(total), mask=rows < N)
    tl.store(own_ptr + part * N + rows, own, mask=rows < N)


@triton.jit
def _gradient(scores, sums, targets, weights, columns):
    """weights (probability - 1 at the target) [BN, BV]: of the loss by the scores."""
    shares = tl.exp(scores - sums[:, None])
    return weights[:, None] * tl.where(columns[None, :] == targets[:, None], shares - 1.0, shares)


@triton.jit
def _of_queries(
    q_ptr, table_ptr, bias_ptr, targets_ptr, sums_ptr, weights_ptr, grad_ptr, N, V, D, each,
    HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr, BN: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """The queries' gradient [S, N, D] through a part of the items."""
    rows, part, dims = tl.program_id(0) * BN + tl.arange(0, BN), tl.program_id(1), tl.arange(0, BD)
    q = _tile_of(q_ptr, rows, N, D, BD)
    targets = tl.load(targets_ptr + rows, mask=rows < N, other=0)
    sums = tl.load(sums_ptr + rows, mask=rows < N, other=float("inf"))
    weights = tl.load(weights_ptr + rows, mask=rows < N, other=0.0)
    grad = tl.zeros((BN, BD), tl.float32)
    first = 1 + part * each
    for start in range(first, tl.minimum(first + each, V), BV):
        columns = start + tl.arange(0, BV)
        items = _tile_of(table_ptr, columns, V, D, BD)
        scores = _scores(q, items, bias_ptr, columns, V, HAS_BIAS, PRECISION)
        found = _gradient(scores, sums, targets, weights, columns)
        grad = dot(found.to(items.dtype), items, grad, PRECISION)
    at = grad_ptr + (part * N + rows[:, None]).to(tl.int64) * D + dims[None, :]
    tl.store(at, grad, mask=(rows[:, None] < N) & (dims[None, :] < D))


@triton.jit
def _of_items(
    q_ptr, table_ptr, bias_ptr, targets_ptr, sums_ptr, weights_ptr, grad_ptr, grad_bias_ptr, N, V, D, each,
    HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr, BN: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """The gradients of items [S, V, D] and biases [S, V] through a part of the queries; row 0 is not written."""
    columns, part, dims = 1 + tl.program_id(0) * BV + tl.arange(0, BV), tl.program_id(1), tl.arange(0, BD)
    items = _tile_of(table_ptr, columns, V, D, BD)
    grad, grad_bias = tl.zeros((BV, BD), tl.float32), tl.zeros((BV,), tl.float32)
    first = part * each
    for start in range(first, tl.minimum(first + each, N), BN):
        rows = start + tl.arange(0, BN)
        q = _tile_of(q_ptr, rows, N, D, BD)
        targets = tl.load(targets_ptr + rows, mask=rows < N, other=0)
        sums = tl.load(sums_ptr + rows, mask=rows < N, other=float("inf"))
        weights = tl.load(weights_ptr + rows, mask=rows < N, other=0.0)
        scores = _scores(q, items, bias_ptr, columns, V, HAS_BIAS, PRECISION)
        found = _gradient(scores, sums, targets, weights, columns)
        grad = dot(tl.trans(found.to(q.dtype)), q, grad, PRECISION)
        if HAS_BIAS:
            grad_bias += tl.sum(found, 0)
    at = (part.to(tl.int64) * V + columns).to(tl.int64)
    tl.store(grad_ptr + at[:, None] * D + dims[None, :], grad, mask=(columns[:, None] < V) & (dims[None, :] < D))
    if HAS_BIAS:
        tl.store(grad_bias_ptr + at, grad_bias, mask=columns < V)


def settings(D: int, itemsize: int) -> dict[str, Any]:
    """A launch's tiles: those of [BN, BV] and [., BD] numbers in registers, two or three of them in shared memory."""
    if INTERPRETED:
        return {"PRECISION": "ieee", "BN": 16, "BV": 32, "BD": tile(D, 1024)}
    low = itemsize < 4
    return {
        "PRECISION": precision(),
        "BN": 128 if low and D <= 64 else 64,
        "BV": 128 if low and D <= 128 else 64,
        "BD": tile(D, 1024),
        "num_warps": 8,  # with 4 the gradients' sums of wide vectors spill
        "num_stages": 3 if low and D <= 64 else 2,
    }


def forward(queries_ND: Tensor, table_VD: Tensor, targets_N: Tensor, bias_V: Tensor | None) -> tuple[Tensor, Tensor]:
    """Losses [N] and log sum exp [N] in fp32; queries and table of one format, contiguous, biases in fp32."""
    (N, D), V = queries_ND.shape, len(table_VD)
    chosen = settings(D, queries_ND.element_size())
    rows, blocks = triton.cdiv(N, chosen["BN"]), triton.cdiv(V - 1, chosen["BV"])
    parts, each = _parts(rows, blocks, chosen["BV"], queries_ND.device)
    sums_SN, own_SN = (torch.empty((parts, N), dtype=torch.float32, device=queries_ND.device) for _ in range(2))
    if N:
        given = (queries_ND, table_VD, table_VD if bias_V is None else bias_V, targets_N, sums_SN, own_SN)
        with on_device(queries_ND):
            _forward[(rows, parts)](*given, N, V, D, each, HAS_BIAS=bias_V is not None, **chosen)
    sums_N = sums_SN.logsumexp(0)
    return (sums_N - own_SN.sum(0)).masked_fill(targets_N <= 0, 0.0), sums_N


def backward(
    grad_N: Tensor, queries_ND: Tensor, table_VD: Tensor, targets_N: Tensor, bias_V: Tensor | None, sums_N: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of queries, table and biases in fp32; `queries_ND` and `table_VD` as `forward` had them."""
    (N, D), V, device = queries_ND.shape, len(table_VD), queries_ND.device
    chosen = settings(D, queries_ND.element_size())
    grad_N = grad_N.float().masked_fill(targets_N <= 0, 0.0)
    # The largest weight becomes 1: mean losses of many targets have weights that fp16 cannot hold.
    unit = grad_N.abs().amax() if N else grad_N.new_zeros(())
    weights_N = (grad_N / unit).nan_to_num_(0.0) * GAIN
    unit = unit / GAIN
    rows, columns = triton.cdiv(N, chosen["BN"]), triton.cdiv(V - 1, chosen["BV"])
    given = (queries_ND, table_VD, table_VD if bias_V is None else bias_V, targets_N, sums_N, weights_N)
    parts, each = _parts(rows, columns, chosen["BV"], device)
    make = torch.empty if N else torch.zeros
    grad_queries_SND = make((parts, N, D), dtype=torch.float32, device=device)
    parts_of_rows, rows_each = _parts(columns, rows, chosen["BN"], device)
    grad_table_SVD = make((parts_of_rows, V, D), dtype=torch.float32, device=device)
    grad_bias_SV = make((parts_of_rows, V if bias_V is not None else 0), dtype=torch.float32, device=device)
    grad_table_SVD[:, 0], grad_bias_SV[:, :1] = 0.0, 0.0
    if N:
        has_bias = bias_V is not None
        with on_device(queries_ND):
            _of_queries[(rows, parts)](*given, grad_queries_SND, N, V, D, each, HAS_BIAS=has_bias, **chosen)
            _of_items[(columns, parts_of_rows)](
                *given, grad_table_SVD, grad_bias_SV, N, V, D, rows_each, HAS_BIAS=has_bias, **chosen
            )
    summed = [_sum(x).mul_(unit) for x in (grad_queries_SND, grad_table_SVD, grad_bias_SV)]
    return summed[0], summed[1], None if bias_V is None else summed[2]


def _parts(tiles: int, blocks: int, block: int, device: torch.device) -> tuple[int, int]:
    """How many parts a loop over `blocks` is cut into, and how many rows or columns each has."""
    blocks_each = triton.cdiv(max(blocks, 1), splits(tiles, blocks, device))
    return max(1, triton.cdiv(blocks, blocks_each)), blocks_each * block


def _sum(parts: Tensor) -> Tensor:
    return parts[0] if len(parts) == 1 else parts.sum(0)
