"""Transformer blocks: attention and a feed-forward layer, each with a residual connection.

Legend: B rows, L positions, P packed positions (`parts/packing`), N targets, M the most targets of a row, C candidates,
T remembered positions, D width. Masks are True at real positions.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from seqrec_cli.data.sizes import TARGETS_STEP, WIDTH_STEP, common_size
from seqrec_cli.models.parts.attention import MultiHeadAttention
from seqrec_cli.models.parts.dropout import Dropout
from seqrec_cli.models.parts.mlp import Activation, FeedForward
from seqrec_cli.models.parts.packing import Packing
from seqrec_cli.models.parts.positions import RelativeBias, Rotary
from seqrec_cli.models.parts.residual import add, add_and_norm


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
    """Row numbers [B], the place [B] of each row's last event (0 if it has none), and the places up to it [B, L]."""
    ends_B = lengths_B.clamp(min=1) - 1
    B, L, _ = x_BLD.shape
    return (
        torch.arange(B, device=x_BLD.device),
        ends_B,
        torch.arange(L, device=x_BLD.device) <= ends_B[:, None],
    )


def run_causal(blocks: Iterable[nn.Module], x_BLD: Tensor) -> Tensor:
    """Through all blocks. Rows end in padding, which nothing before it can see: no mask is needed."""
    for block in blocks:
        x_BLD = block(x_BLD, causal=True)
    return x_BLD


def run_causal_to_end(blocks: Iterable[nn.Module], x_BLD: Tensor, lengths_B: Tensor) -> Tensor:
    """What `run_causal` gives at each row's last event, [B, D]; the top block makes nothing else."""
    *lower, top = blocks
    end_BD: Tensor = top.at_end(run_causal(lower, x_BLD), lengths_B)  # type: ignore[operator]
    return end_BD


class TransformerBlock(nn.Module):
    """`pre`: x + f(norm(x)), as in GPT-2; `post`: norm(x + f(x)), as in Vaswani et al. (2017) and BST, eq. 3-5."""

    def __init__(
        self,
        dim: int,
        heads: int,
        ffn_dim: int,
        norm: Literal["pre", "post"],
        activation: Activation,
        drop: float,
        attention_drop: float,
        places: Rotary | RelativeBias | None = None,
        ffn_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.pre = norm == "pre"
        self.attention = MultiHeadAttention(dim, heads, attention_drop, places=places)
        self.feed_forward = FeedForward(dim, ffn_dim, activation, ffn_drop)
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.drop = Dropout(drop)

    def forward(
        self, x_BLD: Tensor, causal: bool = False, mask_BL: Tensor | None = None, packing: Packing | None = None
    ) -> Tensor:
        """[B, L, D], or with a packing [P, D], as the input."""
        inner = self.before(x_BLD)
        return self._after(x_BLD, self.attention.look(inner, inner, causal, mask_BL, packing=packing))

    def onward(
        self, x: Tensor, inner: Tensor, mask_BL: Tensor, packing: Packing | None, following: "TransformerBlock"
    ) -> tuple[Tensor, Tensor]:
        """Of an input and what `before` made of it: `forward`'s output, and what the `following` block's `before` makes
        of that, which is one pass with the sum before it."""
        attended = self.attention.look(inner, inner, False, mask_BL, packing=packing)
        if self.pre and following.pre:
            x, inner = self._fed(x, attended)
            return add_and_norm(x, self.feed_forward.down, inner, self.drop, following.norm_attention)
        x = self._after(x, attended)
        return x, following.before(x)

    def at_targets(
        self,
        x_BLD: Tensor,
        inner: Tensor,
        positions_N: Tensor,
        columns_BM: Tensor,
        mask_BL: Tensor,
        packing: Packing | None = None,
    ) -> Tensor:
        """Of an input and what `before` made of it, the block's output [N, D] at the positions `Batch.target_positions`
        and `target_columns` say; other places are keys and values alone. In training on a CPU rows follow that are
        nobody's (`common_size`)."""
        (B, L), D, device = mask_BL.shape, x_BLD.shape[-1], x_BLD.device
        padded = self.training and not torch.compiler.is_compiling()
        if padded:
            more = common_size(columns_BM.shape[1], WIDTH_STEP, device) - columns_BM.shape[1]
            columns_BM = nn.functional.pad(columns_BM, (0, more), value=L)
        M = columns_BM.shape[1]
        counts_B = (columns_BM < L).sum(1)
        rows_N = positions_N // L
        nth_N = torch.arange(positions_N.shape[0], device=device) - (counts_B.cumsum(0) - counts_B)[rows_N]
        columns_BM = columns_BM.clamp(max=L - 1)
        asked_BM = torch.arange(B, device=device)[:, None] * L + columns_BM
        if packing is not None:
            asked_BM, positions_N = packing.at(asked_BM), packing.at(positions_N)
        asked_BMD = inner.flatten(0, -2).index_select(0, asked_BM.flatten()).view(B, M, D)
        attended_BMD = self.attention.look(asked_BMD, inner, False, mask_BL, columns_BM, packing)
        asked_N = rows_N * M + nth_N
        if padded:
            more = common_size(len(positions_N), TARGETS_STEP, device) - len(positions_N)
            asked_N, positions_N = (nn.functional.pad(x_N, (0, more)) for x_N in (asked_N, positions_N))
        attended_ND = attended_BMD.flatten(0, 1).index_select(0, asked_N)
        return self._after(x_BLD.flatten(0, -2).index_select(0, positions_N), attended_ND)

    def at_end(self, x_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        """The causal block's output [B, D] at each row's last event (its first place, if it has none)."""
        inner, (rows_B, ends_B, seen_BL) = self.before(x_BLD), row_ends(x_BLD, lengths_B)
        attended_B1D = self.attention.look(inner[rows_B, ends_B, None], inner, False, seen_BL, ends_B[:, None])
        return self._after(x_BLD[rows_B, ends_B], attended_B1D[:, 0])

    def remember(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of positions that candidates will read."""
        return self.attention.remember(self.before(x_BTD))

    def weigh(self, candidates_ACD: Tensor, memory: tuple[Tensor, Tensor], mask_BT: Tensor) -> Tensor:
        """How much of the memory each candidate reads in `read`, [B, C, T]: the mean over heads."""
        return self.attention.weigh(self.before(candidates_ACD), memory, mask_BT).mean(1)[..., :-1]

    def read(self, candidates_ACD: Tensor, memory: tuple[Tensor, Tensor], mask_BT: Tensor) -> Tensor:
        """The block's output [B, C, D] at candidates that each see the memory and themselves; A is B or 1."""
        attended = self.attention.look_back(self.before(candidates_ACD), memory, mask_BT)
        return self._after(candidates_ACD, attended)

    def before(self, x: Tensor) -> Tensor:
        """What attention reads of the block's input."""
        normed: Tensor = self.norm_attention(x) if self.pre else x
        return normed

    def _after(self, x: Tensor, attended: Tensor) -> Tensor:
        """`attended` is what the heads read, before the layer behind them."""
        feed_forward = self.feed_forward
        if self.pre:
            x, inner = self._fed(x, attended)
            return add(x, feed_forward.down, inner, self.drop)
        _, x = add_and_norm(x, self.attention.out, attended, self.drop, self.norm_attention)
        return add_and_norm(x, feed_forward.down, feed_forward.inner(x), self.drop, self.norm_feed_forward)[1]

    def _fed(self, x: Tensor, attended: Tensor) -> tuple[Tensor, Tensor]:
        """Between the block's two sums: the first, and what the second's layer reads."""
        x, normed = add_and_norm(x, self.attention.out, attended, self.drop, self.norm_feed_forward)
        return x, self.feed_forward.inner(normed)
