"""What next-item encoders share: from a batch to the vectors their layers read, and from states to scores.

Legend: B rows, L history events, N targets, D width, V items, F joined attributes' width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model import EncoderConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.numbers import item_features
from seqrec_cli.models.contract import SequenceEncoder, full_precision
from seqrec_cli.models.encoder_features import EncoderFeatures, reads_time
from seqrec_cli.models.features import check_widths, features
from seqrec_cli.models.initialise import initialise
from seqrec_cli.models.layers.dropout import Dropout
from seqrec_cli.models.layers.embedding import FeatureEmbedding
from seqrec_cli.models.layers.packed_rows import PackedRows
from seqrec_cli.models.layers.positions import PositionEmbedding, check_window
from seqrec_cli.models.layers.row_shard import RowShard
from seqrec_cli.models.layers.sharded_table import ShardedTable, catalog_table


class ItemEncoder(SequenceEncoder):
    """An encoder around the layers of a subclass, which `add_layers` makes and `forward_layers` runs.

    With a temperature, queries and item vectors are of length 1 and queries are then divided by it: whoever
    multiplies them (losses, scores, exports) gets cosines over temperature, and need not know.
    """

    embeds_events = True
    trained_V1: Tensor | None  # 1 for items with training events
    reads_more = False  # than the catalog's items, after `use_item_table`
    norm: nn.Module  # in front of the product with the items

    def __init__(self, cfg: EncoderConfig, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.max_length, self.temperature, self.user_dropout = cfg.max_length, cfg.temperature, cfg.user_dropout
        self.event_dropout, D = cfg.event_dropout, cfg.embed_dim
        check_widths(cfg, catalog, {"items"} if cfg.attributes == "concat" else ())
        self.scale = 1.0  # of the item vectors in the input
        self.items = catalog_table(catalog.num_items + 1, D)
        self.attributes = None if cfg.attributes == "none" else _attributes(cfg, catalog)
        self.join = None
        if self.attributes is not None and cfg.attributes == "concat":
            self.join = nn.Linear(D + self.attributes.width, D, bias=False)
        self.users = catalog_table(catalog.num_users + 1, cfg.user_dim) if cfg.user_dim else None
        self.from_user = nn.Linear(cfg.user_dim, D, bias=False) if cfg.user_dim else None
        self.features = EncoderFeatures(cfg, catalog)
        self.reads_context = self.features.of_request is not None
        self.sees_target_time = self.reads_context and reads_time(catalog)
        self.register_buffer("trained_V1", None)
        if cfg.attributes == "tied":
            self.trained_V1 = torch.ones(catalog.num_items + 1, 1)
        self.positions = PositionEmbedding(cfg.positions, cfg.max_length, D)
        self.drop = Dropout(cfg.dropout)
        self.add_layers(cfg)
        self.output = None if cfg.tied else catalog_table(catalog.num_items + 1, D)
        self.bias_V = nn.Parameter(torch.zeros(catalog.num_items + 1)) if cfg.item_bias else None
        initialise(self, cfg.init_std, cfg.layer_std)

    def add_layers(self, cfg: EncoderConfig) -> None:
        """Make the layers and `norm`."""
        raise NotImplementedError

    def forward_layers(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        """The layers' outputs [B, L, D]."""
        raise NotImplementedError

    def forward_layers_last(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        """The layers' outputs [B, D] at each row's last event; a model may save itself the others."""
        rows_B = torch.arange(x_BLD.shape[0], device=x_BLD.device)
        return self.forward_layers(x_BLD, batch)[rows_B, (batch.lengths_B - 1).clamp(min=0)]

    def encode(self, batch: Batch) -> Tensor:
        return self.to_queries(self.forward_layers(self.embed(batch), batch))

    def last(self, batch: Batch) -> Tensor:
        return self.to_queries(self.forward_layers_last(self.embed(batch), batch))

    def encode_packed(self, batch: Batch) -> Tensor:
        rows = PackedRows.of(batch)
        states_PD = self.forward_packed(self.drop(self.embed_packed(batch, rows)), batch, rows)
        positions_N = batch.target_positions()
        if len(positions_N) < len(states_PD):  # in training every event has a target
            states_PD = states_PD.index_select(0, rows.index(positions_N))
        return self.to_queries(states_PD)

    def embed_packed(self, batch: Batch, rows: PackedRows) -> Tensor:
        """`embed_whole` of rows that are laid end to end, [P, D]: its tables are looked up for events alone."""
        check_window(batch.items_BL, self.max_length)
        x_P1D = self.embed_items(rows.pick(batch.items_BL)[:, None])
        if self.users is not None or self.features.users is not None:  # of each row once: dropout hides whole users
            of_users_B1D = self.add_user(x_P1D.new_zeros((len(batch), 1, x_P1D.shape[-1])), batch.users_B)
            x_P1D = x_P1D + rows.of_rows(of_users_B1D)
        x_P1D = self.features.add_packed(x_P1D, batch, rows)
        return self.positions.add_packed(x_P1D[:, 0], batch.lengths_B, rows)

    def forward_packed(self, x_PD: Tensor, batch: Batch, rows: PackedRows) -> Tensor:
        """`forward_layers` of rows that are laid end to end, [P, D], for models whose settings have `packs`."""
        raise NotImplementedError

    def embed(self, batch: Batch) -> Tensor:
        """What the layers read, [B, L, D]."""
        embedded: Tensor = self.drop(self.embed_whole(batch))
        return embedded

    def embed_whole(self, batch: Batch) -> Tensor:
        """The same before dropout: item, attributes, user, context and position."""
        check_window(batch.items_BL, self.max_length)
        x_BLD = self.add_user(batch.present(self.embed_items(batch.items_BL)), batch.users_B)
        return self.place(self.features.add_context(x_BLD, batch), batch)

    def place(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        """x with the vectors of its positions."""
        placed_BLD: Tensor = self.positions(x_BLD, batch.lengths_B)
        return placed_BLD

    def embed_items(self, items_BL: Tensor) -> Tensor:
        """Input vectors [B, L, D] of items with their attributes."""
        x_BLD: Tensor = self._own(items_BL)
        if self.join is not None and self.attributes is not None:
            x_BLD = self.join(torch.cat([x_BLD, self.attributes.joined(items_BL)], dim=-1))
        elif self.attributes is not None:
            x_BLD = x_BLD + self.attributes.summed(items_BL)
        if self.training and self.event_dropout:  # as Gal & Ghahramani drop words (arXiv 1512.05287)
            kept_BL = torch.rand(items_BL.shape, device=x_BLD.device) >= self.event_dropout
            x_BLD = x_BLD * (kept_BL / (1 - self.event_dropout)).to(x_BLD.dtype)[..., None]
        return x_BLD if self.scale == 1.0 else x_BLD * self.scale

    def add_user(self, x_BLD: Tensor, users_B: Tensor) -> Tensor:
        """x plus what is known of each row's user, at every event.

        SSE-PT (Wu et al. 2020, arXiv 1908.05435) joins the two and lets the whole network be that much wider; here
        a projection keeps the width. Instead of drawing another user at random (its SSE), training now and then
        takes the user for an unknown one, so that rows of unknown users are no stranger to the network.
        """
        x_BLD = self.features.add_user_attributes(x_BLD, users_B)
        if self.users is None or self.from_user is None:
            return x_BLD
        if self.training and self.user_dropout:
            forgotten_B = torch.rand(users_B.shape, device=users_B.device) < self.user_dropout
            users_B = users_B.masked_fill(forgotten_B, 0)
        with_user: Tensor = x_BLD + self.from_user(self.users(users_B))[:, None]
        return with_user

    def to_queries(self, x: Tensor) -> Tensor:
        """What is multiplied with the item vectors, from the layers' outputs [..., D]."""
        with full_precision(x.device):
            return self.scale_queries(self.norm(x.float()))

    def scale_queries(self, states: Tensor) -> Tensor:
        """States [..., D] in fp32 as they are, or of length 1 / temperature."""
        return states if self.temperature is None else F.normalize(states, dim=-1) / self.temperature

    @property
    def shard(self) -> RowShard | None:
        table = self.items if self.output is None else self.output
        return table.shard if isinstance(table, ShardedTable) else None

    def item_table(self) -> Tensor:
        table_VD = self._output()
        if self.trained_V1 is not None and self.attributes is not None:
            items_V = self._items_of_table()
            table_VD = table_VD * self.trained_V1[items_V] + self.attributes.summed(items_V)
        return self._as_vectors(table_VD)

    def item_vectors(self, items: Tensor) -> Tensor:
        table = self.items if self.output is None else self.output
        if isinstance(table, ShardedTable):
            vectors: Tensor = table(items)
        else:
            vectors = F.embedding(items, self._output(), padding_idx=0, sparse=self.sparse_rows)
        if self.trained_V1 is not None and self.attributes is not None:
            vectors = vectors * self.trained_V1[items] + self.attributes.summed(items)
        return self._as_vectors(vectors)

    def prepare(self, item_counts_V: Tensor, user_counts_U: Tensor) -> None:
        if self.trained_V1 is not None:
            self.trained_V1.copy_((item_counts_V > 0)[:, None])

    def item_bias(self) -> Tensor | None:
        return self.bias_V

    @property
    def reads_what_it_scores(self) -> bool:
        # Attributes are read by the catalog's rows, of which a new item has none.
        return self.output is None and self.attributes is None

    def use_item_table(self, table_RD: Tensor) -> None:
        assert self.reads_what_it_scores
        own_VD, added_AD = self.items.weight[: self.num_items + 1], table_RD[self.num_items + 1 :]
        if self.temperature is not None:  # an output is of length 1, and an input of a length of its own
            added_AD = F.normalize(added_AD, dim=1) * own_VD[1:].norm(dim=1).mean()
        self.reads_more = True
        self.items.weight = nn.Parameter(torch.cat([own_VD, added_AD]).detach(), requires_grad=False)

    def _own(self, items: Tensor) -> Tensor:
        """The items' own vectors; zero where attributes speak for an item that training never saw."""
        own: Tensor = self.items(items)
        return own if self.trained_V1 is None else own * self.trained_V1[items]

    def _items_of_table(self) -> Tensor:
        first, last = (0, self.num_items + 1) if self.shard is None else (self.shard.first, self.shard.last)
        return torch.arange(first, last, device=self.items.weight.device)

    def _input_table(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors that hold those of `items`, and where among them each stands; negative numbers stay."""
        return self.items.fetched(items) if isinstance(self.items, ShardedTable) else (items, self.items.weight)

    def _output(self) -> Tensor:
        table_VD = self.items.weight if self.output is None else self.output.weight
        return table_VD[: self.num_items + 1] if self.reads_more else table_VD

    def _as_vectors(self, rows: Tensor) -> Tensor:
        if self.temperature is None:
            return rows
        with full_precision(rows.device):
            return F.normalize(rows.float(), dim=-1)


def _attributes(cfg: EncoderConfig, catalog: Catalog) -> FeatureEmbedding:
    if not features(catalog)["items"]:
        raise SeqrecError(
            f"model.attributes={cfg.attributes}: the dataset has no item attributes; use model.attributes=none"
        )
    return FeatureEmbedding(
        catalog.num_items + 1,
        catalog.item_attributes,
        catalog.item_values,
        dim=cfg.embed_dim,
        own=False,
        numbers=item_features(catalog),
        widths=cfg.widths,
    )
