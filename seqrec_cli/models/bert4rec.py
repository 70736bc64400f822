"""BERT4Rec: a transformer that reads a history in both directions and guesses masked events (Sun et al. 2019,
arXiv 1904.06690).

`norm: post` is the paper's block (section 3.3), `norm: pre` trains more steadily. `head: gelu` is its output layer,
P(v) = softmax(GELU(h W + b) E' + b_v) (eq. 7), with the LayerNorm before the product that BERT and the authors' code
have. Deviation: weights start as `parts/initialise` says.

To predict, a mask is put behind the latest max_length - 1 events and its state is read. The mask is a vector of its
own, no row of the item table: no score of the corpus is its.

Legend: B rows, L events, W = L or L + 1 places, P packed places (`parts/packing`), N targets, D width, V items.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from seqrec_cli.config.model.bert4rec import Config
from seqrec_cli.data.batch import MASKED, Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import full_precision
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.parts import events_native
from seqrec_cli.models.parts.initialise import xavier_std
from seqrec_cli.models.parts.packing import Packing
from seqrec_cli.models.parts.positions import attention_places, check_window
from seqrec_cli.models.parts.transformer import TransformerBlock, as_stream


class Model(ItemEncoder):
    """Bidirectional transformer that reads its answers where events are masked."""

    causal = False

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(cfg, catalog)
        self.mask_D = nn.Parameter(torch.empty(cfg.embed_dim))
        std = cfg.init_std or xavier_std(*self.items.weight.shape)
        nn.init.trunc_normal_(self.mask_D, std=std, a=-2 * std, b=2 * std)

    def add_layers(self, cfg: Config) -> None:  # type: ignore[override]
        dim = cfg.embed_dim
        self.norm_embedding = nn.LayerNorm(dim) if cfg.embedding_norm else nn.Identity()
        self.blocks = nn.ModuleList(
            TransformerBlock(
                dim,
                cfg.heads,
                cfg.ffn_dim,
                cfg.norm,
                "gelu",
                cfg.dropout,
                cfg.attention_dropout,
                attention_places(cfg.positions, cfg.heads, dim // cfg.heads, cfg.max_length),
                cfg.ffn_dropout,
            )
            for _ in range(cfg.blocks)
        )
        # The last block's outputs are normed already where norms stand behind the layers.
        self.norm_last = nn.LayerNorm(dim) if cfg.norm == "pre" else nn.Identity()
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.GELU()) if cfg.head == "gelu" else None
        self.norm_head = nn.LayerNorm(dim) if cfg.head == "gelu" else nn.Identity()

    def through(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        mask_BL = batch.mask_BL
        for block in self.blocks:
            x_BLD = block(x_BLD, mask_BL=mask_BL)
        return x_BLD

    def encode_targets(self, batch: Batch) -> Tensor:
        """The states [N, D] of `encode` at targets; the last block and the head leave all others out."""
        blocks = [block for block in self.blocks if isinstance(block, TransformerBlock)]
        last, mask_BL, packing = blocks[-1], batch.mask_BL, None
        if last.attention.packs(self.items.weight):
            packing = Packing.of(batch.lengths_B, mask_BL.shape[1], padded=self.training)
            x = self.embed_packed(batch, packing)
        else:
            x = self.embed(batch)
        inner, positions_N = blocks[0].before(x), batch.target_positions()
        for block, following in pairwise(blocks):
            x, inner = block.onward(x, inner, mask_BL, packing, following)
        x_ND = last.at_targets(x, inner, positions_N, batch.target_columns(), mask_BL, packing)
        return self.read(x_ND)[: positions_N.shape[0]]

    def last(self, batch: Batch) -> Tensor:
        """The state [B, D] of a mask behind each row's last event."""
        return self.encode_targets(self._ask(batch))

    def embed(self, batch: Batch) -> Tensor:
        check_window(batch.items_BL, self.max_length)
        masked_BL = batch.items_BL == MASKED
        x_BLD = self.of_items(batch.items_BL.masked_fill(masked_BL, 0))
        x_BLD = self.of_user(torch.where(masked_BL[:, :, None], self.mask_D, x_BLD), batch.users_B)
        x_BLD = self.norm_embedding(self.places(x_BLD, batch.lengths_B))
        embedded: Tensor = self.drop(as_stream(x_BLD))
        return embedded

    def embed_packed(self, batch: Batch, packing: Packing) -> Tensor:
        """What `embed` makes of real events, [P, D]."""
        plain = self.attributes is None and self.users is None and not (self.training and self.event_dropout)
        if not plain or not events_native.in_c(self.items.weight):
            return packing.pack(self.embed(batch))
        check_window(batch.items_BL, self.max_length)
        table = self.places.table
        return events_native.read(
            packing.pick(batch.items_BL),
            self.items.weight,
            self.mask_D,
            packing.pick(self.places.rows(batch.lengths_B, batch.items_BL.shape[1])),
            None if table is None else table.weight,
            self.norm_embedding if isinstance(self.norm_embedding, nn.LayerNorm) else None,
            self.drop.acting,
            packing.size,
        )

    def read(self, x: Tensor) -> Tensor:
        if self.head is not None:
            x = self.head(self.norm_last(x))
            with full_precision(x.device):
                return self.as_queries(self.norm_head(x.float()))
        with full_precision(x.device):
            return self.as_queries(self.norm_last(x.float()))

    def _ask(self, batch: Batch) -> Batch:
        """The rows with a mask behind their last event, as their only target; a full row gives up its first event."""
        check_window(batch.items_BL, self.max_length)
        B, L = batch.items_BL.shape
        W = torch.sym_min(L + 1, self.max_length)
        lengths_B = batch.lengths_B.clamp(max=self.max_length - 1)
        columns_W = torch.arange(W, device=lengths_B.device)
        items_BL = nn.functional.pad(batch.items_BL, (0, 1))
        items_BW = items_BL.gather(1, (batch.lengths_B - lengths_B)[:, None] + columns_W)
        items_BW = items_BW.masked_fill(columns_W == lengths_B[:, None], MASKED)
        return Batch(
            users_B=batch.users_B,
            items_BL=items_BW,
            lengths_B=lengths_B + 1,
            positions_N=torch.arange(B, device=lengths_B.device) * W + lengths_B,
            masked_BM=lengths_B[:, None],
        )
