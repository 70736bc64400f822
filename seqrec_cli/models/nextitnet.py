"""NextItNet: residual blocks of dilated ("holed") causal convolutions over the history (Yuan et al. 2019,
arXiv 1808.05163), with the residual block of its figure 3b:

    X + relu(norm(conv_2l(relu(norm(conv_l(X))))))

where conv_l reads events at distances 0, l, 2l, ..., (kernel - 1) l back, and layer norms are over the channels of one
event. Padding is on the right and a convolution reads zeros in front of a row, so no state sees padding.

Deviations: dropout in the input and at the end of each block's branch; a LayerNorm stands in front of the product with
the items, whose table is the input's (`tied: false`: one of its own, as published); a block's dilations are stated one
by one; histories are padded on the right, not in front.

Legend: B rows, L history events, D width, K events that a convolution reads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_cli.config.model.nextitnet import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.layers.dropout import Dropout


class CausalConvolution(nn.Module):
    """One product of the events 0, l, ..., (K - 1) l back, joined with the earliest first: [B, L, D] -> [B, L, D].

    A linear layer, so that `initialise.py` knows it.
    """

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.taps = nn.Linear(kernel * width, width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        L = x_BLD.shape[1]
        padded = F.pad(x_BLD, (0, 0, (self.kernel - 1) * self.dilation, 0))
        read = [padded[:, k * self.dilation : k * self.dilation + L] for k in range(self.kernel)]
        convolved: Tensor = self.taps(torch.cat(read, dim=-1))
        return convolved


class Block(nn.Module):
    """Two convolutions, the second with twice the dilation, each with its norm and ReLU, beside the identity."""

    def __init__(self, cfg: Config, dilation: int) -> None:
        super().__init__()
        self.near = CausalConvolution(cfg.embed_dim, cfg.kernel, dilation)
        self.far = CausalConvolution(cfg.embed_dim, cfg.kernel, 2 * dilation)
        self.norm_near, self.norm_far = nn.LayerNorm(cfg.embed_dim), nn.LayerNorm(cfg.embed_dim)
        self.drop = Dropout(cfg.dropout)

    def forward(self, x_BLD: Tensor) -> Tensor:
        inner_BLD = F.relu(self.norm_near(self.near(x_BLD)))
        summed: Tensor = x_BLD + self.drop(F.relu(self.norm_far(self.far(inner_BLD))))
        return summed


class Model(ItemEncoder):
    """A stack of blocks, one for each of the dilations."""

    def add_layers(self, cfg: Config) -> None:  # type: ignore[override]
        self.blocks = nn.ModuleList(Block(cfg, dilation) for dilation in cfg.dilations)
        self.norm = nn.LayerNorm(cfg.embed_dim)

    def forward_layers(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        for block in self.blocks:
            x_BLD = block(x_BLD)
        return x_BLD
