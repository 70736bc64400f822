"""What next-item encoders share: from a batch to the vectors their layers read, and from states to scores.

Legend: B rows, L history events, N targets, D width, V items, F joined attributes' width.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_cli.config.model import EncoderConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import SequenceEncoder, full_precision
from seqrec_cli.models.encoder_features import EncoderFeatures, reads_time
from seqrec_cli.models.encoder_items import item_attributes, text_items
from seqrec_cli.models.features import check_widths
from seqrec_cli.models.initialise import initialise
from seqrec_cli.models.layers.dropout import Dropout, drop_events
from seqrec_cli.models.layers.packed_rows import PackedRows
from seqrec_cli.models.layers.positions import PositionEmbedding, check_window
from seqrec_cli.models.layers.row_shard import RowShard
from seqrec_cli.models.layers.sharded_table import ShardedTable, catalog_table
from seqrec_cli.models.layers.text_items import TextItems
from seqrec_cli.models.layers.user_vector import StepHeads, UserOutput, swapped


class ItemEncoder(SequenceEncoder):
    """An encoder around the layers of a subclass, which `add_layers` makes and `forward_layers` runs.

    With a temperature, queries and item vectors are of length 1 and queries are then divided by it: whoever
    multiplies them (losses, scores, exports) gets cosines over temperature, and need not know.
    """

    embeds_events = True
    trained_V1: Tensor | None  # 1 for items with training events
    taught_U: Tensor | None  # True for users that training learns from; known in training alone
    reads_more = False  # than the catalog's items, after `use_item_table`
    norm: nn.Module  # in front of the product with the items

    def __init__(self, cfg: EncoderConfig, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.max_length, self.temperature, self.user_dropout = cfg.max_length, cfg.temperature, cfg.user_dropout
        self.event_dropout, self.user_swap, self.item_swap = cfg.event_dropout, cfg.user_swap, cfg.item_swap
        D = cfg.embed_dim
        check_widths(cfg, catalog, {"items"} if cfg.attributes == "concat" else ())
        self.scale = self.user_scale = 1.0  # of the item vectors in the input, and of the users' that join them
        self.items: nn.Embedding | TextItems = (
            self.make_items(cfg, catalog) if cfg.items == "ids" else text_items(cfg, catalog)
        )
        self.attributes = None if cfg.attributes == "none" else item_attributes(cfg, catalog)
        self.join = None
        if self.attributes is not None and cfg.attributes == "concat":
            self.join = nn.Linear(D + self.attributes.width, D, bias=False)
        self.users = catalog_table(catalog.num_users + 1, cfg.user_dim) if cfg.user_dim else None
        self.joins_user = bool(cfg.user_dim) and cfg.user_input == "concat"
        adds_user = bool(cfg.user_dim) and cfg.user_input == "add"
        self.from_user = nn.Linear(cfg.user_dim, D, bias=False) if adds_user else None
        self.register_buffer("taught_U", None, persistent=False)
        self.features = EncoderFeatures(cfg, catalog)
        self.reads_context = self.features.of_request is not None
        self.sees_target_time = self.reads_context and reads_time(catalog)
        self.register_buffer("trained_V1", None)
        if cfg.attributes == "tied":
            self.trained_V1 = torch.ones(catalog.num_items + 1, 1)
        self.positions = PositionEmbedding(cfg.positions, cfg.max_length, cfg.layer_dim)
        self.drop = Dropout(cfg.dropout)
        self.add_layers(cfg.model_copy(update={"embed_dim": cfg.layer_dim}) if self.joins_user else cfg)
        if self.joins_user and self.scale != 1.0:  # both tables by the root of their width, as SSE-PT's code has it
            self.scale, self.user_scale = D**0.5, cfg.user_dim**0.5
        film = bool(cfg.user_dim) and cfg.user_output != "none"
        self.user_output = UserOutput(cfg.user_output, cfg.user_dim, D) if film else None  # type: ignore[arg-type]
        self.steps_ahead = cfg.steps_ahead
        self.step_heads = StepHeads(cfg.steps_ahead, D) if cfg.steps_ahead > 1 else None
        self.output = None if cfg.tied else catalog_table(catalog.num_items + 1, D)
        self.bias_V = nn.Parameter(torch.zeros(catalog.num_items + 1)) if cfg.item_bias else None
        initialise(self, cfg.init_std, cfg.layer_std)

    def make_items(self, cfg: EncoderConfig, catalog: Catalog) -> nn.Embedding:
        """Make the table of what items are read by."""
        return catalog_table(catalog.num_items + 1, cfg.embed_dim)

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
        batch = self.with_read_users(batch)
        return self.to_queries(self.forward_layers(self.embed(batch), batch), batch.own_users_B)

    def last(self, batch: Batch) -> Tensor:
        batch = self.with_read_users(batch)
        return self.to_queries(self.forward_layers_last(self.embed(batch), batch), batch.own_users_B)

    def encode_packed(self, batch: Batch) -> Tensor:
        batch, rows = self.with_read_users(batch), PackedRows.of(batch)
        states_PD = self.forward_packed(self.drop(self.embed_packed(batch, rows)), batch, rows)
        positions_N = batch.target_positions()
        if len(positions_N) < len(states_PD):  # in training every event has a target
            states_PD = states_PD.index_select(0, rows.index(positions_N))
        return self.to_queries(states_PD, batch.own_users_B[positions_N // rows.width])

    def embed_packed(self, batch: Batch, rows: PackedRows) -> Tensor:
        """`embed_whole` of rows that are laid end to end, [P, D]: its tables are looked up for events alone."""
        check_window(batch.items_BL, self.max_length)
        x_P1D = self.embed_items(rows.pick(batch.items_BL)[:, None])
        if self.users is not None or self.features.users is not None:  # of each row once: dropout hides whole users
            of_users_B1D = self.add_user(x_P1D.new_zeros((len(batch), 1, x_P1D.shape[-1])), batch)
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
        x_BLD = self.add_user(batch.present(self.embed_items(batch.items_BL)), batch)
        return self.place(self.join_user(self.features.add_context(x_BLD, batch), batch), batch)

    def place(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        """x with the vectors of its positions."""
        placed_BLD: Tensor = self.positions(x_BLD, batch.lengths_B)
        return placed_BLD

    def embed_items(self, items_BL: Tensor) -> Tensor:
        """Input vectors [B, L, D] of items with their attributes."""
        if self.training and self.item_swap:
            items_BL = swapped(items_BL, self.item_swap, self.num_items + 1)
        x_BLD: Tensor = self._own(items_BL)
        if self.join is not None and self.attributes is not None:
            x_BLD = self.join(torch.cat([x_BLD, self.attributes.joined(items_BL)], dim=-1))
        elif self.attributes is not None:
            x_BLD = x_BLD + self.attributes.summed(items_BL)
        if self.training and self.event_dropout:
            x_BLD = drop_events(x_BLD, self.event_dropout)
        return x_BLD if self.scale == 1.0 else x_BLD * self.scale

    def add_user(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        """x plus what is known of each row's user, at every event."""
        x_BLD = self.features.add_user_attributes(x_BLD, batch.users_B)
        if self.from_user is None:
            return x_BLD
        with_user: Tensor = x_BLD + self.from_user(self.user_vectors(batch.own_users_B))[:, None]
        return with_user

    def join_user(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        """x and the user's vector side by side at every event, where the settings say so: SSE-PT's input (Wu et al.,
        RecSys 2020, arXiv 1908.05435, section 3.2), [B, L, D + d]."""
        if not self.joins_user:
            return x_BLD
        users_Bd = (self.user_vectors(batch.own_users_B) * self.user_scale).to(x_BLD.dtype)
        return torch.cat([x_BLD, users_Bd[:, None].expand(-1, x_BLD.shape[1], -1)], dim=-1)

    def user_vectors(self, users: Tensor) -> Tensor:
        """Vectors [..., d]; zero for an unknown user, and for one of whom training had no two events."""
        assert self.users is not None
        vectors: Tensor = self.users(users)
        return vectors

    def with_read_users(self, batch: Batch) -> Batch:
        """The batch with whose vectors its rows read, in the input and in the output alike.

        Training now and then takes a user for an unknown one, so that rows of unknown users are no stranger to the
        network, or for another, as SSE-PT does (`layers/user_vector.py`).
        """
        if self.users is None or not self.training:
            return batch
        users_B = batch.users_B
        if self.user_swap:
            users_B = swapped(users_B, self.user_swap, self.num_users + 1, drawn_R=self.taught_U)
        if self.user_dropout:
            forgotten_B = torch.rand(users_B.shape, device=users_B.device) < self.user_dropout
            users_B = users_B.masked_fill(forgotten_B, 0)
        return replace(batch, read_users_B=users_B)

    def to_queries(self, x: Tensor, users: Tensor) -> Tensor:
        """What is multiplied with the item vectors, from the layers' outputs [..., D] and their rows' users.

        Of states that are as wide as item and user together the first D numbers count: SSE-PT multiplies the others
        with the user's vector, which adds the same to every item's score and changes no softmax and no order.
        """
        with full_precision(x.device):
            return self.scale_queries(self.norm(x.float()), users)

    def scale_queries(self, states: Tensor, users: Tensor) -> Tensor:
        """States in fp32 as the user conditions them [..., D], as they are, or of length 1 / temperature."""
        if self.joins_user:
            states = states[..., : self.items.embedding_dim]
        if self.user_output is not None:
            states = self.user_output(states, self.user_vectors(users).float())
        return states if self.temperature is None else F.normalize(states, dim=-1) / self.temperature

    def query_ahead(self, queries_ND: Tensor, step: int) -> Tensor:
        """What asks for the event `step` (2, ..., steps_ahead) after those states whose queries ask for the next."""
        assert self.step_heads is not None
        with full_precision(queries_ND.device):
            states_ND = queries_ND if self.temperature is None else queries_ND * self.temperature
            ahead_ND: Tensor = self.step_heads(states_ND, step)
            return ahead_ND if self.temperature is None else F.normalize(ahead_ND, dim=-1) / self.temperature

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
        if isinstance(table, ShardedTable | TextItems):
            vectors: Tensor = table(items)
        else:
            vectors = F.embedding(items, self._output(), padding_idx=0, sparse=self.sparse_rows)
        if self.trained_V1 is not None and self.attributes is not None:
            vectors = vectors * self.trained_V1[items] + self.attributes.summed(items)
        return self._as_vectors(vectors)

    def prepare(self, item_counts_V: Tensor, user_counts_U: Tensor) -> None:
        if self.trained_V1 is not None:
            self.trained_V1.copy_((item_counts_V > 0)[:, None])
        if self.users is not None:
            # Whom nothing is learned of: chance must not speak for them. A row of training is an event and the next.
            self.taught_U, table = user_counts_U > 1, self.users
            rows = slice(table.shard.first, table.shard.last) if isinstance(table, ShardedTable) else slice(None)
            with torch.no_grad():
                table.weight.mul_(self.taught_U[rows, None])
        if isinstance(self.items, TextItems):
            self.items.see(item_counts_V)

    def item_bias(self) -> Tensor | None:
        added_V = self.items.training_bias() if self.training and isinstance(self.items, TextItems) else None
        if added_V is None or self.bias_V is None:
            return self.bias_V if added_V is None else added_V
        return self.bias_V + added_V

    def vectors_of_texts(self) -> Callable[[Tensor], Tensor] | None:
        """What makes output vectors [R, D] of what the model reads of texts [R, W] (`vector_features`), also after
        `use_item_table`; None where items are not made of texts."""
        items = self.items
        return (
            (lambda numbers_RW: self._as_vectors(items.of_texts(numbers_RW))) if isinstance(items, TextItems) else None
        )

    @property
    def reads_what_it_scores(self) -> bool:
        # Attributes are read by the catalog's rows, of which a new item has none.
        return self.output is None and self.attributes is None

    def use_item_table(self, table_RD: Tensor) -> None:
        assert self.reads_what_it_scores
        own_VD, added_AD = self.items.weight[: self.num_items + 1], table_RD[self.num_items + 1 :]
        if isinstance(self.items, TextItems):
            self.items = nn.Embedding(1, own_VD.shape[1], padding_idx=0)
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

    def _output(self) -> Tensor:
        table_VD = self.items.weight if self.output is None else self.output.weight
        return table_VD[: self.num_items + 1] if self.reads_more else table_VD

    def _as_vectors(self, rows: Tensor) -> Tensor:
        if self.temperature is None:
            return rows
        with full_precision(rows.device):
            return F.normalize(rows.float(), dim=-1)
