"""GRU4Rec: a gated recurrent network over the history (Hidasi et al. 2016, arXiv 1511.06939, eq. 1-4).

    r = sigmoid(x_r + U_r h)    u = sigmoid(x_u + U_u h)    n = tanh(x_n + r * (U_n h))    h' = h + u * (n - h)

Deviations: the reset gate stands behind the product with U_n, as in cuDNN, which makes one product of the three; items
are embedded, not one-hot; whole histories are rows, padded on the right, instead of sessions in parallel; a linear
layer brings the last GRU's states to the items' width and a LayerNorm stands in front of the product with them. Its
TOP1 loss is left out: a softmax over many negatives took its place in the authors' later work (arXiv 1706.03847).

Legend: B rows, L history events, D width, H states' width.
"""

from torch import Tensor, nn

from seqrec_cli.config.model.gru4rec import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.layers.gru import Recurrence


class Model(ItemEncoder):
    """Recurrent layers, then a projection to the items' width."""

    def add_layers(self, cfg: Config) -> None:  # type: ignore[override]
        widths = [cfg.embed_dim] + [cfg.hidden] * (cfg.layers - 1)
        self.blocks = nn.ModuleList(Recurrence(width, cfg.hidden, cfg.max_length) for width in widths)
        self.out = nn.Linear(cfg.hidden, cfg.embed_dim)
        self.norm = nn.LayerNorm(cfg.embed_dim)

    def forward_layers(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        whole: Tensor = self.out(self._run(x_BLD, batch, only_last=False))
        return whole

    def forward_layers_last(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        end: Tensor = self.out(self._run(x_BLD, batch, only_last=True))
        return end

    def _run(self, x_BLH: Tensor, batch: Batch, only_last: bool) -> Tensor:
        """States [B, L, H] after each event, or [B, H] after the last: padding freezes a state."""
        real_BL1 = batch.mask_BL[:, :, None].float()
        *lower, top = self.blocks
        for layer in lower:
            assert isinstance(layer, Recurrence)
            x_BLH = self.drop(layer.states(layer.project(x_BLH), real_BL1).squeeze(2))
        assert isinstance(top, Recurrence)
        projected_BLG = top.project(x_BLH)
        if only_last:
            return self.drop(top.last(projected_BLG, real_BL1).squeeze(1))
        return self.drop(top.states(projected_BLG, real_BL1).squeeze(2))
