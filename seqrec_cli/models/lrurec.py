"""LRURec: linear recurrent units over the history, whose cost grows with its length alone (Yue et al. 2024,
arXiv 2310.02367).

`norm: post` is the authors' block, x = norm(x + drop(unit(x))), x = norm(x + drop(ffn(x))), behind a norm of the
dropped-out embeddings; `norm: pre` is x = x + drop(f(norm(x))) with a norm in front of the output. Deviations:
histories are padded on the right, which a causal recurrence never sees, so it needs no mask; weights start as
`initialise.py` says (the authors: 0.02 throughout).

Legend: B rows, L history events, D width, N complex numbers of a state.
"""

from torch import Tensor, nn

from seqrec_cli.config.model.lrurec import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.kernels.bias_dropout_add_norm.op import linear_dropout_add, linear_dropout_add_norm
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.layers.dropout import Dropout
from seqrec_cli.models.layers.linear_recurrence import LinearRecurrence
from seqrec_cli.models.layers.mlp import FeedForward
from seqrec_cli.models.layers.transformer import row_ends


class Block(nn.Module):
    """A recurrent unit and a feed-forward layer, over [L, B, D]."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.pre = cfg.norm == "pre"
        self.unit = LinearRecurrence(cfg.embed_dim, cfg.states, cfg.ring, longest=cfg.max_length)
        self.feed_forward = FeedForward(cfg.embed_dim, cfg.ffn_dim, "gelu", drop=cfg.dropout)
        self.norm_unit, self.norm_feed_forward = nn.LayerNorm(cfg.embed_dim), nn.LayerNorm(cfg.embed_dim)
        self.drop = Dropout(cfg.dropout)

    def forward(self, x_LBD: Tensor) -> Tensor:
        return self._output(x_LBD, self._states(x_LBD))

    def forward_last(self, x_LBD: Tensor, ends_B: Tensor, rows_B: Tensor) -> Tensor:
        """The block's output [B, D] at one position of each row."""
        return self._output(x_LBD[ends_B, rows_B], self._states(x_LBD)[ends_B, rows_B])

    def _states(self, x_LBD: Tensor) -> Tensor:
        return self.unit.states(self.norm_unit(x_LBD) if self.pre else x_LBD)

    def _output(self, x: Tensor, states: Tensor) -> Tensor:
        out, down, drop = self.unit.out, self.feed_forward.down, self.drop.current
        if self.pre:
            x, normed = linear_dropout_add_norm(x, out, states, drop, self.norm_feed_forward)
            return linear_dropout_add(x, down, self.feed_forward.inner(normed), drop)
        _, x = linear_dropout_add_norm(x, out, states, drop, self.norm_unit)
        return linear_dropout_add_norm(x, down, self.feed_forward.inner(x), drop, self.norm_feed_forward)[1]


class Model(ItemEncoder):
    """A stack of blocks. They run with the steps first: a step's numbers of all rows lie together."""

    def add_layers(self, cfg: Config) -> None:  # type: ignore[override]
        post = cfg.norm == "post"
        self.norm_embedding = nn.LayerNorm(cfg.embed_dim) if post else nn.Identity()
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.blocks))
        self.norm = nn.Identity() if post else nn.LayerNorm(cfg.embed_dim)

    def embed(self, batch: Batch) -> Tensor:
        normed: Tensor = self.norm_embedding(super().embed(batch))
        return normed

    def forward_layers(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        x_LBD = x_BLD.transpose(0, 1).contiguous()
        for block in self.blocks:
            x_LBD = block(x_LBD)
        return x_LBD.transpose(0, 1)

    def forward_layers_last(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        *lower, top = self.blocks
        assert isinstance(top, Block)
        x_LBD = x_BLD.transpose(0, 1).contiguous()
        for block in lower:
            x_LBD = block(x_LBD)
        rows_B, ends_B, _ = row_ends(x_BLD, batch.lengths_B)
        return top.forward_last(x_LBD, ends_B, rows_B)
