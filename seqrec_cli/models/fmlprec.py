"""FMLP-Rec: learnable filters of frequencies instead of attention (Zhou et al. 2022, arXiv 2202.13556, section 4).

With F a Fourier transform along the max_length positions of a row, padded on the left, and X its events, a block is

    filtered = F^-1 (W * F X)               W a learned complex number for each frequency and channel
    X = norm(X + drop(filtered)),  X = norm(X + drop(gelu(X W1 + b1) W2 + b2))

behind LayerNorm, then dropout, of the embeddings. GELU is that of the authors' code; the paper's equation has ReLU. A
filter is a circular convolution: `filtered` is a sum of the row's events, each weighed by its distance alone, with a
learned kernel as long as max_length, wherever the padding is.

`filter: row` is the published one. It is not causal: a position's output has later events in it, n ahead by the weight
of distance max_length - n. The authors train one row a target, with the loss at the row's last event alone, where all
others are earlier ones; that is objective.window=prefixes here, and any other is refused. Deviation of `filter:
causal`: the sum is cut to the events up to a position, so that all positions of a row can be learned from at once. With
one block its last state is that of `row`; with more it is not, for lower blocks of `row` have read later events at
earlier positions. Deviations of both: padding is zero to the filter (in the authors' code it is filtered too).

Training convolves by Fourier transforms, an exported program by a product with the kernel laid out for all pairs of
positions: the same sums.

Legend: B rows, L events, M max_length, K = M // 2 + 1 frequencies, D width.
"""

import numpy as np
import torch
from torch import Tensor, nn

from seqrec_cli.config.model.fmlprec import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.kernels.bias_dropout_add_norm.op import linear_dropout_add_norm
from seqrec_cli.models.contract import full_precision
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.layers.dropout import Dropout
from seqrec_cli.models.layers.mlp import FeedForward
from seqrec_cli.models.layers.transformer import row_ends


class LearnableFilter(nn.Module):
    """A learned weight for each frequency and channel, at all positions of a row, or at one of each."""

    cosine_MK: Tensor
    sine_MK: Tensor

    def __init__(self, length: int, dim: int, std: float, *, causal: bool) -> None:
        super().__init__()
        self.length, self.causal = length, causal
        frequencies = length // 2 + 1
        self.weight_KD2 = nn.Parameter(torch.randn(frequencies, dim, 2) * std)
        # The inverse transform as a product: each frequency but the first and the middle one stands for two.
        twice_K = np.full(frequencies, 2.0)
        twice_K[0] = 1.0
        if length % 2 == 0:
            twice_K[-1] = 1.0
        angles_MK = np.arange(length)[:, None] * np.arange(frequencies) % length * (2 * np.pi / length)
        for name, wave_MK in (("cosine_MK", np.cos(angles_MK)), ("sine_MK", np.sin(angles_MK))):
            scaled_MK = (wave_MK * twice_K / length).astype(np.float32)
            self.register_buffer(name, torch.from_numpy(scaled_MK).to(self.weight_KD2.device), persistent=False)

    def kernel(self) -> Tensor:
        """What an event counts that is so many positions back (circularly: `row`), [M, D]."""
        kernel_MD: Tensor = self.cosine_MK @ self.weight_KD2[..., 0] - self.sine_MK @ self.weight_KD2[..., 1]
        return kernel_MD

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Of rows whose padding is zero, [B, L, D]."""
        L = x_BLD.shape[1]
        with full_precision(x_BLD.device):
            if torch.compiler.is_exporting():
                places_L = torch.arange(L, device=x_BLD.device)
                back_LL = places_L[:, None] - places_L
                weight_LLD = self.kernel()[back_LL % self.length]
                if self.causal:
                    weight_LLD = weight_LLD * (back_LL >= 0)[..., None]
                filtered_BLD = torch.einsum("tsd,bsd->btd", weight_LLD, x_BLD.float())
            elif self.causal:
                taps_BKD = torch.fft.rfft(self.kernel()[:L], n=2 * L, dim=0)
                filtered_BLD = torch.fft.irfft(torch.fft.rfft(x_BLD.float(), n=2 * L, dim=1) * taps_BKD, n=2 * L, dim=1)
            else:
                bins_BKD = torch.fft.rfft(x_BLD.float(), n=self.length, dim=1) * torch.view_as_complex(self.weight_KD2)
                filtered_BLD = torch.fft.irfft(bins_BKD, n=self.length, dim=1)
            return filtered_BLD[:, :L].to(x_BLD.dtype)

    def last(self, x_BLD: Tensor, ends_B: Tensor) -> Tensor:
        """At position `ends_B` of each row, the last of its events, [B, D]."""
        places_L = torch.arange(x_BLD.shape[1], device=x_BLD.device)
        with full_precision(x_BLD.device):
            weight_BLD = self.kernel()[(ends_B[:, None] - places_L).clamp(min=0)]
            return (weight_BLD * x_BLD.float()).sum(1).to(x_BLD.dtype)


class Block(nn.Module):
    """A filter and a feed-forward layer."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        D = cfg.embed_dim
        self.filter = LearnableFilter(cfg.max_length, D, cfg.filter_std, causal=cfg.filter == "causal")
        self.feed_forward = FeedForward(D, cfg.ffn_dim, "gelu")
        self.norm_filter, self.norm_feed_forward = nn.LayerNorm(D), nn.LayerNorm(D)
        self.drop = Dropout(cfg.dropout)

    def forward(self, x_BLD: Tensor, seen_BL: Tensor) -> Tensor:
        return self._output(x_BLD, self.filter(x_BLD * seen_BL[..., None]))

    def forward_last(self, x_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        """The block's output [B, D] at each row's last event (its first position, if it has none)."""
        rows_B, ends_B, seen_BL = row_ends(x_BLD, lengths_B)
        return self._output(x_BLD[rows_B, ends_B], self.filter.last(x_BLD * seen_BL[..., None], ends_B))

    def _output(self, x: Tensor, filtered: Tensor) -> Tensor:
        x = self.norm_filter(x + self.drop(filtered))
        down, inner = self.feed_forward.down, self.feed_forward.inner(x)
        return linear_dropout_add_norm(x, down, inner, self.drop.current, self.norm_feed_forward)[1]


class Model(ItemEncoder):
    """A stack of blocks, whose output is normed by the last."""

    def add_layers(self, cfg: Config) -> None:  # type: ignore[override]
        self.causal = cfg.filter == "causal"
        self.norm_embedding = nn.LayerNorm(cfg.embed_dim)
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
        return top.forward_last(self._through(self.blocks[:-1], x_BLD, batch), batch.lengths_B)

    def _through(self, blocks: nn.ModuleList, x_BLD: Tensor, batch: Batch) -> Tensor:
        _, _, seen_BL = row_ends(x_BLD, batch.lengths_B)
        for block in blocks:
            x_BLD = block(x_BLD, seen_BL)
        return x_BLD
