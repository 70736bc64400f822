"""BSARec: a filter of frequencies beside self-attention (Shin et al. 2024, arXiv 2312.10325, section 4).

With F a Fourier transform along the max_length positions of a row, padded on the left, and X its first events:

    low = F^-1 (the lowest c // 2 + 1 frequencies of F X),  high = X - low
    filtered  = norm(X + drop(low + beta^2 * high))         beta a learned number a channel, N(0, 1) at first
    attended  = norm(X + drop(attention(X)))
    H = alpha * filtered + (1 - alpha) * attended,  output = norm(H + drop(ffn(H)))

and LayerNorm, then dropout of the embeddings. Low-pass by Fourier is a circular convolution: `low` is a sum of the
row's events, each weighed by its distance alone (`low_pass`), wherever the padding is.

`filter: row` is the published one, in which a position sees later events: right only where a row has its one target
after its last event, as the authors train (objective.window=prefixes). Deviation of `filter: causal`: the sum is cut to
the events up to a position, so that all positions of a row can be learned from at once; the last state of a single
block is the same. Deviations of both: padding is zero to the filter (in the authors' code its positions' vectors are
filtered too), and weights start as `initialise.py` says (`layer_std: 0.02` as the authors').

Legend: B rows, L history events, M max_length, D width.
"""

import torch
from torch import Tensor, nn

from seqrec_cli.config.model.bsarec import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.kernels.bias_dropout_add_norm.op import linear_dropout_add_norm
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.layers.attention import MultiHeadAttention
from seqrec_cli.models.layers.dropout import Dropout
from seqrec_cli.models.layers.mlp import FeedForward
from seqrec_cli.models.layers.positions import attention_positions
from seqrec_cli.models.layers.transformer import row_ends


def low_pass(length: int, frequencies: int) -> Tensor:
    """The weight [M] of an event so many positions away in the sum that leaves the lowest frequencies of M positions:
    (1 + 2 sum of cos(2 pi k d / M) over the frequencies k above 0) / M at distance d."""
    kept_K = (torch.arange(length // 2 + 1) < frequencies).double()
    return torch.fft.irfft(kept_K.to(torch.complex128), n=length).float()


class LowPass(nn.Module):
    """The low frequencies at all positions of a row, or at one of each."""

    weight_M: Tensor
    strided_N: Tensor

    def __init__(self, length: int, frequencies: int, *, causal: bool) -> None:
        super().__init__()
        self.length, self.causal = length, causal
        weight_M = low_pass(length, frequencies)
        self.register_buffer("weight_M", weight_M, persistent=False)
        # By distance, from M - 1 events back to M - 1 events ahead; those weigh nothing to a causal filter.
        ahead_M = torch.zeros(length - 1) if causal else weight_M[1:]
        self.register_buffer("strided_N", torch.cat([weight_M.flip(0), ahead_M]), persistent=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Of rows whose padding is zero, [B, L, D]."""
        L = x_BLD.shape[1]
        # Row r belongs to the position M - 1 - r. The view is whole, for its size has to be a plain number.
        weight_MM = self.strided_N.unfold(0, self.length, 1)
        low_BLD: Tensor = weight_MM[self.length - L :, :L].flip(0).to(x_BLD.dtype) @ x_BLD
        return low_BLD

    def last(self, x_BLD: Tensor, ends_B: Tensor) -> Tensor:
        """At position `ends_B` of each row, the last of its events, [B, D]."""
        places_L = torch.arange(x_BLD.shape[1], device=x_BLD.device)
        weight_BL = self.weight_M[(ends_B[:, None] - places_L).clamp(min=0)]
        return (weight_BL[:, None].to(x_BLD.dtype) @ x_BLD)[:, 0]


class Block(nn.Module):
    """Filter and attention side by side, and a feed-forward layer."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        D, self.alpha = cfg.embed_dim, cfg.alpha
        positions = attention_positions(cfg.positions, cfg.heads, D // cfg.heads, longest=cfg.max_length)
        self.attention = MultiHeadAttention(D, cfg.heads, cfg.attention_dropout, positions=positions)
        self.feed_forward = FeedForward(D, cfg.ffn_dim, "gelu")
        self.beta_D = nn.Parameter(torch.randn(D))
        self.norm_filter, self.norm_attention = nn.LayerNorm(D), nn.LayerNorm(D)
        self.norm_feed_forward = nn.LayerNorm(D)
        self.drop = Dropout(cfg.dropout)

    def forward(self, x_BLD: Tensor, low_BLD: Tensor) -> Tensor:
        return self._output(x_BLD, low_BLD, self.attention.attend(x_BLD, x_BLD, causal=True))

    def forward_last(self, x_BLD: Tensor, low_BD: Tensor, lengths_B: Tensor) -> Tensor:
        """The block's output [B, D] at each row's last event (its first position, if it has none), with `low` there."""
        rows_B, ends_B, seen_BL = row_ends(x_BLD, lengths_B)
        queries_B1D = x_BLD[rows_B, ends_B, None]
        attended_B1D = self.attention.attend(queries_B1D, x_BLD, mask_BT=seen_BL, positions_BL=ends_B[:, None])
        return self._output(queries_B1D[:, 0], low_BD, attended_B1D[:, 0])

    def _output(self, x: Tensor, low: Tensor, attended: Tensor) -> Tensor:
        drop, out, down = self.drop.current, self.attention.out, self.feed_forward.down
        assert out is not None
        filtered: Tensor = self.norm_filter(x + self.drop(low + self.beta_D.square() * (x - low)))
        _, attended = linear_dropout_add_norm(x, out, attended, drop, self.norm_attention)
        mixed = self.alpha * filtered + (1 - self.alpha) * attended
        return linear_dropout_add_norm(mixed, down, self.feed_forward.inner(mixed), drop, self.norm_feed_forward)[1]


class Model(ItemEncoder):
    """A stack of blocks, whose output is normed by the last."""

    def add_layers(self, cfg: Config) -> None:  # type: ignore[override]
        self.causal = cfg.filter == "causal"
        self.norm_embedding = nn.LayerNorm(cfg.embed_dim)
        self.low_pass = LowPass(cfg.max_length, cfg.cutoff // 2 + 1, causal=self.causal)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.blocks))
        self.norm = nn.Identity()

    def embed(self, batch: Batch) -> Tensor:
        embedded: Tensor = self.drop(self.norm_embedding(self.embed_whole(batch)))
        return embedded

    def forward_layers(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        return self._through(self.blocks, x_BLD, batch)

    def forward_layers_last(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        top = self.blocks[-1]
        assert isinstance(top, Block)
        x_BLD = self._through(self.blocks[:-1], x_BLD, batch)
        _, ends_B, seen_BL = row_ends(x_BLD, batch.lengths_B)
        low_BD = self.low_pass.last(x_BLD * seen_BL[..., None], ends_B)
        return top.forward_last(x_BLD, low_BD, batch.lengths_B)

    def _through(self, blocks: nn.ModuleList, x_BLD: Tensor, batch: Batch) -> Tensor:
        _, _, seen_BL = row_ends(x_BLD, batch.lengths_B)
        for block in blocks:
            x_BLD = block(x_BLD, self.low_pass(x_BLD * seen_BL[..., None]))
        return x_BLD
