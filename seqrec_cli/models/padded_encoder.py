"""A causal transformer: of rows padded on the right, laid end to end, or padded on the left as SASRec was published.

Left-padded rows are made inside the model, from the batch's right-padded ones, and its states go back to where the
events stand in those: training, evaluation, exported programs and services give a model the same histories.

Legend: B rows, L history events, M max_length, P packed events, D width.
"""

from torch import Tensor, nn

from seqrec_cli.config.padding import PaddedConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.initialise import xavier_std
from seqrec_cli.models.layers.left_padding import LeftPadding
from seqrec_cli.models.layers.packed_rows import PackedRows
from seqrec_cli.models.layers.transformer import forward_causal, forward_causal_last, forward_packed


class PaddedEncoder(ItemEncoder):
    """Around `blocks`, each called as `block(x, causal=True, mask_BL=...)`, which `add_layers` makes."""

    blocks: nn.ModuleList

    def __init__(self, cfg: PaddedConfig, catalog: Catalog) -> None:
        super().__init__(cfg, catalog)
        self.padding = None
        if cfg.padding != "none":
            std = cfg.init_std or xavier_std(catalog.num_items + 1, cfg.embed_dim)
            self.padding = LeftPadding(cfg, std)

    def place(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        if self.padding is None:
            return super().place(x_BLD, batch)
        return self.padding.placed(x_BLD, batch.lengths_B, self.positions, scale=self.scale)

    def forward_layers(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        if self.padding is None:
            return forward_causal(self.blocks, x_BLD)
        return self.padding.back(self._padded(self.padding, x_BLD, batch), batch.lengths_B, batch.items_BL.shape[1])

    def forward_layers_last(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        if self.padding is None:
            return forward_causal_last(self.blocks, x_BLD, batch.lengths_B)
        return self._padded(self.padding, x_BLD, batch)[:, -1]

    def forward_packed(self, x_PD: Tensor, batch: Batch, rows: PackedRows) -> Tensor:
        return forward_packed(self.blocks, x_PD, rows)

    def _padded(self, padding: LeftPadding, x_BMD: Tensor, batch: Batch) -> Tensor:
        """Through all blocks, in rows of M."""
        real_BM = padding.real(batch.lengths_B)
        masked_BM = real_BM if padding.kind == "masked" else None
        for block in self.blocks:
            x_BMD = block(padding.cleared(x_BMD, real_BM), causal=True, mask_BL=masked_BM)
        return x_BMD
