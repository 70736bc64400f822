"""Transformer blocks: attention and a feed-forward layer, each with a residual connection.

Legend: B rows, L positions, P packed positions (`kernels/split_heads/packing.py`), N targets, M the most targets of a
row, C candidates, T keys, D width. Masks are True at real positions.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from seqrec_cli.data.sizes import TARGETS_STEP, WIDTH_STEP, common_size
from seqrec_cli.kernels.bias_dropout_add_norm.op import linear_dropout_add, linear_dropout_add_norm
from seqrec_cli.kernels.split_heads.packing import Packing
from seqrec_cli.models.layers.attention import MultiHeadAttention
from seqrec_cli.models.layers.dropout import Dropout
from seqrec_cli.models.layers.mlp import Activation, FeedForward
from seqrec_cli.models.layers.packed_rows import Group, PackedRows
from seqrec_cli.models.layers.positions import RelativeBias, Rotary


def as_stream(x: Tensor) -> Tensor:
    """The residual stream: bf16 under bf16 autocast on a CPU, else as it comes.

    There the sums and norms between the products cost as much as the products. On a processor with AMX a bf16
    stream trained SASRec 1.7 times as fast as an fp32 one, with metrics within their noise; on one with AVX512-BF16
    alone the two are equally fast (d 64: 89 and 90 ms a step; d 128: 211 and 219).
    """
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return x.to(torch.get_autocast_dtype("cpu"))
    return x


def row_ends(x_BLD: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row numbers [B], the position [B] of each row's last event (0 if it has none), and a mask of the positions up to
    it [B, L]."""
    ends_B = lengths_B.clamp(min=1) - 1
    B, L, _ = x_BLD.shape
    return (
        torch.arange(B, device=x_BLD.device),
        ends_B,
        torch.arange(L, device=x_BLD.device) <= ends_B[:, None],
    )


def forward_causal(blocks: Iterable[nn.Module], x_BLD: Tensor) -> Tensor:
    """Through all blocks. Rows end in padding, which nothing before it can see: no mask is needed."""
    for block in blocks:
        x_BLD = block(x_BLD, causal=True)
    return x_BLD


def forward_packed(blocks: Iterable[nn.Module], x_PD: Tensor, rows: PackedRows) -> Tensor:
    """`forward_causal` of rows that are laid end to end."""
    for block in blocks:
        x_PD = block.forward_packed(x_PD, rows)  # type: ignore[operator]
    return x_PD


def forward_causal_last(blocks: Iterable[nn.Module], x_BLD: Tensor, lengths_B: Tensor) -> Tensor:
    """What `forward_causal` gives at each row's last event, [B, D]; the top block computes nothing else."""
    *lower, top = blocks
    last_BD: Tensor = top.forward_last(forward_causal(lower, x_BLD), lengths_B)  # type: ignore[operator]
    return last_BD


class TransformerBlock(nn.Module):
    """`pre`: x + f(norm(x)), as in GPT-2; `post`: norm(x + f(x)), as in Vaswani et al. (2017) and BST, eq. 3-5."""

    def __init__(
        self,
        dim: int,
        heads: int,
        ffn_dim: int,
        *,
        norm: Literal["pre", "post"],
        activation: Activation,
        drop: float,
        attention_drop: float = 0.0,
        ffn_drop: float = 0.0,
        positions: Rotary | RelativeBias | None = None,
    ) -> None:
        super().__init__()
        self.pre = norm == "pre"
        self.attention = MultiHeadAttention(dim, heads, attention_drop, positions=positions)
        self.feed_forward = FeedForward(dim, ffn_dim, activation, drop=ffn_drop)
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.drop = Dropout(drop)

    def forward(self, x_BLD: Tensor, causal: bool = False, mask_BL: Tensor | None = None) -> Tensor:
        inner = self.attention_input(x_BLD)
        return self._after_attention(x_BLD, self.attention.attend(inner, inner, causal=causal, mask_BT=mask_BL))

    def forward_packed(self, x_PD: Tensor, rows: PackedRows) -> Tensor:
        """The causal block of rows that are laid end to end."""

        def attend(_: Group, inner_bLD: Tensor) -> Tensor:
            return self.attention.attend(inner_bLD, inner_bLD, causal=True)

        return self._after_attention(x_PD, rows.each(attend, self.attention_input(x_PD)))

    def forward_and_norm(
        self, x: Tensor, inner: Tensor, *, mask_BL: Tensor, packing: Packing | None, following: "TransformerBlock"
    ) -> tuple[Tensor, Tensor]:
        """Of an input and its `attention_input`: `forward`'s output, and the `following` block's `attention_input` of
        that, which one kernel makes together with the sum before it."""
        attended = self.attention.attend(inner, inner, mask_BT=mask_BL, packing=packing)
        if self.pre and following.pre:
            x, inner = self._feed_forward(x, attended)
            return linear_dropout_add_norm(
                x, self.feed_forward.down, inner, self.drop.current, following.norm_attention
            )
        x = self._after_attention(x, attended)
        return x, following.attention_input(x)

    def forward_targets(
        self,
        x: Tensor,
        inner: Tensor,
        positions_N: Tensor,
        *,
        columns_BM: Tensor,
        mask_BL: Tensor,
        packing: Packing | None,
    ) -> Tensor:
        """Of an input and its `attention_input`, the block's output [N, D] at the positions that
        `Batch.target_positions` and `target_columns` name; others are keys and values alone. In training on a CPU rows
        follow that belong to no target (`common_size`)."""
        (B, L), D, device = mask_BL.shape, x.shape[-1], x.device
        padded = self.training and not torch.compiler.is_compiling()
        if padded:
            more = common_size(columns_BM.shape[1], WIDTH_STEP, device) - columns_BM.shape[1]
            columns_BM = nn.functional.pad(columns_BM, (0, more), value=L)
        M = columns_BM.shape[1]
        counts_B = (columns_BM < L).sum(1)
        rows_N = positions_N // L
        nth_N = torch.arange(positions_N.shape[0], device=device) - (counts_B.cumsum(0) - counts_B)[rows_N]
        columns_BM = columns_BM.clamp(max=L - 1)
        queries_BM = torch.arange(B, device=device)[:, None] * L + columns_BM
        if packing is not None:
            queries_BM, positions_N = packing.index(queries_BM), packing.index(positions_N)
        queries_BMD = inner.flatten(0, -2).index_select(0, queries_BM.flatten()).view(B, M, D)
        attended_BMD = self.attention.attend(
            queries_BMD, inner, mask_BT=mask_BL, positions_BL=columns_BM, packing=packing
        )
        targets_N = rows_N * M + nth_N
        if padded:
            more = common_size(len(positions_N), TARGETS_STEP, device) - len(positions_N)
            targets_N, positions_N = (nn.functional.pad(x_N, (0, more)) for x_N in (targets_N, positions_N))
        attended_ND = attended_BMD.flatten(0, 1).index_select(0, targets_N)
        return self._after_attention(x.flatten(0, -2).index_select(0, positions_N), attended_ND)

    def forward_last(self, x_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        """The causal block's output [B, D] at each row's last event (its first position, if it has none)."""
        inner, (rows_B, ends_B, seen_BL) = self.attention_input(x_BLD), row_ends(x_BLD, lengths_B)
        queries_B1D = inner[rows_B, ends_B, None]
        attended_B1D = self.attention.attend(queries_B1D, inner, mask_BT=seen_BL, positions_BL=ends_B[:, None])
        return self._after_attention(x_BLD[rows_B, ends_B], attended_B1D[:, 0])

    def project_kv(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of positions that candidates attend to."""
        return self.attention.project_kv(self.attention_input(x_BTD))

    def candidate_weights(self, candidates_ACD: Tensor, memory: tuple[Tensor, Tensor], mask_BT: Tensor) -> Tensor:
        """How much each candidate attends to the memory in `forward_candidates`, [B, C, T]: the mean over heads."""
        inner = self.attention_input(candidates_ACD)
        return self.attention.candidate_weights(inner, memory, mask_BT).mean(1)[..., :-1]

    def forward_candidates(self, candidates_ACD: Tensor, memory: tuple[Tensor, Tensor], mask_BT: Tensor) -> Tensor:
        """The block's output [B, C, D] at candidates that each see the memory and themselves; A is B or 1."""
        inner = self.attention_input(candidates_ACD)
        attended = self.attention.attend_from_candidates(inner, memory, mask_BT)
        return self._after_attention(candidates_ACD, attended)

    def attention_input(self, x: Tensor) -> Tensor:
        """What attention reads of the block's input."""
        normed: Tensor = self.norm_attention(x) if self.pre else x
        return normed

    def _after_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """The block's output; `attended` is what attention gives before its last projection."""
        drop, out, down = self.drop.current, self.attention.out, self.feed_forward.down
        assert out is not None
        if self.pre:
            x, inner = self._feed_forward(x, attended)
            return linear_dropout_add(x, down, inner, drop)
        _, x = linear_dropout_add_norm(x, out, attended, drop, self.norm_attention)
        return linear_dropout_add_norm(x, down, self.feed_forward.inner(x), drop, self.norm_feed_forward)[1]

    def _feed_forward(self, x: Tensor, attended: Tensor) -> tuple[Tensor, Tensor]:
        """Of a `pre` block: the stream after attention, and the feed-forward layer's inner activations."""
        out = self.attention.out
        assert out is not None
        x, normed = linear_dropout_add_norm(x, out, attended, self.drop.current, self.norm_feed_forward)
        return x, self.feed_forward.inner(normed)


def forward_targets(
    blocks: Sequence[TransformerBlock],
    x: Tensor,
    positions_N: Tensor,
    *,
    columns_BM: Tensor,
    mask_BL: Tensor,
    packing: Packing | None,
) -> Tensor:
    """Through all bidirectional blocks, of which the last computes outputs [N, D] at targets alone (see its method);
    x is [B, L, D], or with a packing [P, D]."""
    inner = blocks[0].attention_input(x)
    for block, following in pairwise(blocks):
        x, inner = block.forward_and_norm(x, inner, mask_BL=mask_BL, packing=packing, following=following)
    return blocks[-1].forward_targets(x, inner, positions_N, columns_BM=columns_BM, mask_BL=mask_BL, packing=packing)
