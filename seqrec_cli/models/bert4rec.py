"""BERT4Rec: a transformer that reads a history in both directions and guesses masked events (Sun et al. 2019,
arXiv 1904.06690).

`norm: post` is the paper's block (section 3.3), `norm: pre` trains more steadily. `head: gelu` is its output layer,
P(v) = softmax(GELU(h W + b) E' + b_v) (eq. 7), with the LayerNorm before the product that BERT and the authors' code
have. Deviation: weights start as `initialise.py` says; `layer_std: 0.02` starts them as there.

To predict, a mask is put behind the latest max_length - 1 events and its state is read. The mask is a vector of its
own, no row of the item table: no score of the corpus is its.

Legend: B rows, L events, W = L or L + 1 positions, P packed positions (`kernels/split_heads/packing.py`), N targets,
D width, V items.
"""

import torch
from torch import Tensor, nn

from seqrec_cli.config.model.bert4rec import Config
from seqrec_cli.data.batch import MASKED, Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.sizes import PACKED_STEP, common_size
from seqrec_cli.kernels.embed_norm_dropout.op import embed_norm_dropout
from seqrec_cli.kernels.split_heads.op import pack_rows
from seqrec_cli.kernels.split_heads.packing import Packing
from seqrec_cli.models.contract import full_precision
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.initialise import xavier_std
from seqrec_cli.models.layers.positions import attention_positions, check_window
from seqrec_cli.models.layers.sharded_table import ShardedTable
from seqrec_cli.models.layers.transformer import TransformerBlock, as_stream, forward_targets


class Model(ItemEncoder):
    """Bidirectional transformer that reads its answers where events are masked."""

    causal = False
    places_of_no_event = 1

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(cfg, catalog)
        self.mask_D = nn.Parameter(torch.empty(cfg.embed_dim))
        std = cfg.init_std or xavier_std(self.items.num_embeddings, self.items.embedding_dim)
        nn.init.trunc_normal_(self.mask_D, std=std, a=-2 * std, b=2 * std)

    def add_layers(self, cfg: Config) -> None:  # type: ignore[override]
        dim = cfg.embed_dim
        self.norm_embedding = nn.LayerNorm(dim) if cfg.embedding_norm else nn.Identity()
        self.blocks = nn.ModuleList(
            TransformerBlock(
                dim,
                cfg.heads,
                cfg.ffn_dim,
                norm=cfg.norm,
                activation="gelu",
                drop=cfg.dropout,
                attention_drop=cfg.attention_dropout,
                ffn_drop=cfg.ffn_dropout,
                positions=attention_positions(cfg.positions, cfg.heads, dim // cfg.heads, longest=cfg.max_length),
            )
            for _ in range(cfg.blocks)
        )
        # The last block's outputs are normed already where norms stand behind the layers.
        self.norm_last = nn.LayerNorm(dim) if cfg.norm == "pre" else nn.Identity()
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.GELU()) if cfg.head == "gelu" else None
        self.norm_head = nn.LayerNorm(dim) if cfg.head == "gelu" else nn.Identity()

    def forward_layers(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        mask_BL = batch.mask_BL
        for block in self.blocks:
            x_BLD = block(x_BLD, mask_BL=mask_BL)
        return x_BLD

    def encode_targets(self, batch: Batch) -> Tensor:
        """The states [N, D] of `encode` at targets; the last block and the head leave all others out."""
        batch = self.with_read_users(batch)
        blocks, mask_BL = [block for block in self.blocks if isinstance(block, TransformerBlock)], batch.mask_BL
        packing = pack_rows(
            batch.lengths_B,
            mask_BL.shape[1],
            blocks[0].attention.query,
            self.items.weight,
            step=lambda: common_size(1, PACKED_STEP, mask_BL.device) if self.training else 1,
        )
        x, positions_N = self.embed(batch, packing), batch.target_positions()
        x_ND = forward_targets(
            blocks, x, positions_N, columns_BM=batch.target_columns(), mask_BL=mask_BL, packing=packing
        )
        users_N = batch.own_users_B
        if self.user_output is not None:
            x_ND, users_N = x_ND[: positions_N.shape[0]], users_N[positions_N // mask_BL.shape[1]]
        return self.to_queries(x_ND, users_N)[: positions_N.shape[0]]

    def last(self, batch: Batch) -> Tensor:
        """The state [B, D] of a mask behind each row's last event."""
        return self.encode_targets(self._with_mask_behind(batch))

    def embed(self, batch: Batch, packing: Packing | None = None) -> Tensor:
        """What the blocks read, [B, L, D], or with a packing [P, D]."""
        check_window(batch.items_BL, self.max_length)
        if packing is not None and batch.presence_BL is None and self._only_items_and_positions():
            table = self.positions.table
            items_P, table_VD = packing.pick(batch.items_BL), self.items.weight
            if isinstance(self.items, ShardedTable):  # a table of those of `items_P` alone; negative numbers stay
                items_P, table_VD = self.items.fetched(items_P)
            return embed_norm_dropout(
                items_P,
                packing.pick(self.positions.rows(batch.lengths_B, batch.items_BL.shape[1])),
                table_VD,
                self.mask_D,
                None if table is None else table.weight,
                norm=self.norm_embedding if isinstance(self.norm_embedding, nn.LayerNorm) else None,
                probability=self.drop.current,
                size=packing.size,
            )
        masked_BL = batch.items_BL == MASKED
        x_BLD = batch.present(self.embed_items(batch.items_BL.masked_fill(masked_BL, 0)))
        x_BLD = self.add_user(torch.where(masked_BL[:, :, None], self.mask_D, x_BLD), batch)
        x_BLD = self.join_user(self.features.add_context(x_BLD, batch), batch)
        x_BLD = self.norm_embedding(self.positions(x_BLD, batch.lengths_B))
        embedded: Tensor = self.drop(as_stream(x_BLD))
        return embedded if packing is None else packing.pack(embedded)

    def _only_items_and_positions(self) -> bool:
        """Whether the input holds nothing else."""
        alone = self.attributes is None and self.users is None and not list(self.features.children())
        return alone and not (self.training and (self.event_dropout or self.item_swap))

    def to_queries(self, x: Tensor, users: Tensor) -> Tensor:
        if self.head is not None:
            x = self.head(self.norm_last(x))
            with full_precision(x.device):
                return self.scale_queries(self.norm_head(x.float()), users)
        with full_precision(x.device):
            return self.scale_queries(self.norm_last(x.float()), users)

    def _with_mask_behind(self, batch: Batch) -> Batch:
        """The rows with a mask behind their last event, as their only target; a full row gives up its first event."""
        check_window(batch.items_BL, self.max_length)
        B, L = batch.items_BL.shape
        W = torch.sym_min(L + 1, self.max_length)
        lengths_B = batch.lengths_B.clamp(max=self.max_length - 1)
        columns_W = torch.arange(W, device=lengths_B.device)
        kept_BW = (batch.lengths_B - lengths_B)[:, None] + columns_W
        items_BW = nn.functional.pad(batch.items_BL, (0, 1)).gather(1, kept_BW)
        context_BWF = None
        if self.features.of_events is not None and batch.context_BLF is not None:
            context_BWF = nn.functional.pad(batch.context_BLF, (0, 0, 0, 1))
            context_BWF = context_BWF.gather(1, kept_BW[..., None].expand(-1, -1, context_BWF.shape[-1]))
        items_BW = items_BW.masked_fill(columns_W == lengths_B[:, None], MASKED)
        presence_BL = batch.presence_BL
        presence_BW = None if presence_BL is None else nn.functional.pad(presence_BL, (0, 1)).gather(1, kept_BW)
        return Batch(
            users_B=batch.users_B,
            items_BL=items_BW,
            lengths_B=lengths_B + 1,
            presence_BL=presence_BW,
            context_BLF=context_BWF,
            positions_N=torch.arange(B, device=lengths_B.device) * W + lengths_B,
            masked_BM=lengths_B[:, None],
        )
