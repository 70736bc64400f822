"""Attention with learned binary masks, and the norm of a block's Jacobian (Chen et al. 2022, arXiv 2212.04120, section
4); `models/recdenoiser.py` has the equations and the deviations.

Legend: B rows, L queries, T keys, M max_length, H heads, D width, d = D / H; P = M * M.
"""

import math

import torch
from torch import Tensor, nn

from seqrec_cli.models.layers.attention import MultiHeadAttention
from seqrec_cli.models.layers.dropout import Dropout
from seqrec_cli.models.layers.mlp import FeedForward
from seqrec_cli.models.layers.positions import RelativeBias, Rotary

KEPT_FROM = 0.5  # what is kept with at most this probability is dropped for good in evaluation


class MaskLogits(nn.Module):
    """A logit for every pair of a query and a key, by their places in a window of M events that ends with its last.

    One dimension, so that no weight decay pulls a probability towards a half.
    """

    def __init__(self, length: int, probability: float) -> None:
        super().__init__()
        self.length = length
        self.logit_P = nn.Parameter(torch.full((length * length,), math.log(probability / (1 - probability))))

    @property
    def square(self) -> Tensor:
        """[M, M]."""
        return self.logit_P.view(self.length, self.length)

    def expected(self) -> Tensor:
        """The mask [M, M] of evaluation: probabilities, and 0 instead of small ones."""
        kept_MM = self.square.sigmoid()
        return kept_MM * (kept_MM > KEPT_FROM)

    def open(self) -> Tensor:
        """The expected number of attentions kept, of those that a causal query may have."""
        return self.square.sigmoid().tril().sum()


def mask_of_rows(mask_MM: Tensor, lengths_B: Tensor, width: int) -> Tensor:
    """[B, L, L]: the mask of each row's events. A row's last event is the window's last."""
    M = mask_MM.shape[0]
    places_BL = (M - lengths_B[:, None] + torch.arange(width, device=lengths_B.device)).clamp(max=M - 1)
    return mask_MM[places_BL[:, :, None], places_BL[:, None]]


class MaskedAttention(MultiHeadAttention):
    """softmax(q k' / sqrt(d)) * mask, times v. What a mask drops is given to nobody else."""

    def masked(
        self, queries_BLD: Tensor, memory_BTD: Tensor, mask_BLT: Tensor, *, positions_BL: Tensor | None = None
    ) -> Tensor:
        """[B, L, D] before the last projection; causal, with `positions_BL` of the queries if not 0, 1, ..."""
        q, k, v = self.queries_keys_values(queries_BLD, memory_BTD, positions_BL)
        logits_BHLT = q @ k.mT * q.shape[-1] ** -0.5
        if isinstance(self.positions, RelativeBias):
            logits_BHLT = logits_BHLT + self.positions(k.shape[2], positions_BL)
        places_T = torch.arange(k.shape[2], device=k.device)
        asked_AL = places_T[None] if positions_BL is None else positions_BL
        later_ALT = places_T > asked_AL[:, :, None]
        low = torch.finfo(logits_BHLT.dtype).min / 2
        weights_BHLT = logits_BHLT.masked_fill(later_ALT[:, None], low).softmax(-1) * mask_BLT[:, None].to(v.dtype)
        mixed_BHLd = nn.functional.dropout(weights_BHLT, self._weight_drop()) @ v
        return mixed_BHLd.transpose(1, 2).flatten(2)


class MaskedBlock(nn.Module):
    """A pre-norm block of torch's operators alone: gradients of gradients go through it."""

    def __init__(
        self,
        dim: int,
        heads: int,
        ffn_dim: int,
        *,
        drop: float,
        attention_drop: float,
        positions: Rotary | RelativeBias | None,
    ) -> None:
        super().__init__()
        self.attention = MaskedAttention(dim, heads, attention_drop, positions=positions)
        self.feed_forward = FeedForward(dim, ffn_dim, "gelu")
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.drop = Dropout(drop)

    def forward(self, x_BLD: Tensor, mask_BLL: Tensor) -> Tensor:
        inner = self.norm_attention(x_BLD)
        return self._output(x_BLD, self.attention.masked(inner, inner, mask_BLL))

    def forward_last(self, x_BLD: Tensor, mask_BLL: Tensor, ends_B: Tensor) -> Tensor:
        """The block's output [B, D] at one position of each row."""
        inner, rows_B = self.norm_attention(x_BLD), torch.arange(x_BLD.shape[0], device=x_BLD.device)
        mask_B1L, queries_B1D = mask_BLL[rows_B, ends_B, None], inner[rows_B, ends_B, None]
        attended_B1D = self.attention.masked(queries_B1D, inner, mask_B1L, positions_BL=ends_B[:, None])
        return self._output(x_BLD[rows_B, ends_B], attended_B1D[:, 0])

    def _output(self, x: Tensor, attended: Tensor) -> Tensor:
        assert self.attention.out is not None
        x = x + self.drop(self.attention.out(attended))
        up, down = self.feed_forward.up, self.feed_forward.down
        output: Tensor = x + self.drop(down(nn.functional.gelu(up(self.norm_feed_forward(x)))))
        return output


def squared_jacobian(
    block: MaskedBlock, x_BLD: Tensor, mask_BLL: Tensor, *, real_BL: Tensor, direction_MD: Tensor
) -> Tensor:
    """An unbiased estimate of the squared Frobenius norm of the block's Jacobian, an event: E |n' J|^2 = |J|^2 for a
    direction n ~ N(0, 1), which all rows may share. Without dropout, in fp32; its gradient reaches the block and x."""
    training = block.training
    block.eval()
    try:
        with torch.enable_grad(), torch.autocast(x_BLD.device.type, enabled=False):
            x_BLD = x_BLD.float()
            x_BLD = x_BLD if x_BLD.requires_grad else x_BLD.requires_grad_()
            direction_BLD = direction_MD[: x_BLD.shape[1]] * real_BL[..., None]
            (product_BLD,) = torch.autograd.grad(block(x_BLD, mask_BLL), x_BLD, direction_BLD, create_graph=True)
    finally:
        block.train(training)
    return product_BLD.square().sum() / real_BL.sum().clamp(min=1)
