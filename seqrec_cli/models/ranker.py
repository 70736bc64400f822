"""What every ranker's MLP reads beside the history: users, items and the request's context, with their regularisers.

Legend: B rows, L history events, C candidates, F context attributes, M first width of the MLP.
"""

import torch
from torch import Tensor, nn

from seqrec_cli.config.rankers import RankerConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.numbers import context_features, item_features, user_features
from seqrec_cli.models.contract import Recommender
from seqrec_cli.models.features import ITEM_ID, USER_ID, check_widths
from seqrec_cli.models.layers.embedding import AttributeEmbedding, ContextEmbedding, FeatureEmbedding


class Ranker(Recommender):
    """A recommender with embedded users, items and context, and their part of the MLP's first layer."""

    reads_context = True
    unequal = frozenset({"items", "users", "context"})  # whose features may have widths of their own
    counts_V: Tensor
    counts_U: Tensor

    def __init__(self, cfg: RankerConfig, catalog: Catalog) -> None:
        super().__init__(catalog)
        D, drop, unknown, widths = cfg.embed_dim, cfg.embedding_dropout, cfg.unknown, cfg.widths or {}
        check_widths(cfg, catalog, self.unequal)
        items, users = catalog.num_items + 1, catalog.num_users + 1
        self.items = FeatureEmbedding(
            items,
            catalog.item_attributes,
            catalog.item_values,
            dim=D,
            own=True,
            drop=drop,
            unknown=unknown,
            numbers=item_features(catalog),
            widths=widths,
            own_width=widths.get(ITEM_ID),
        )
        self.users = FeatureEmbedding(
            users,
            catalog.user_attributes,
            catalog.user_values,
            dim=D,
            own=cfg.user_id,
            drop=drop,
            unknown=unknown,
            padding=False,
            numbers=user_features(catalog),
            widths=widths,
            own_width=widths.get(USER_ID),
        )
        contexts, numbers = catalog.context_attributes, context_features(catalog)
        self.context = ContextEmbedding(contexts, D, numbers=numbers, widths=widths) if contexts else None
        self.l2, self.l2_once, self.l2_attributes = cfg.l2, cfg.l2_counts == "once", cfg.l2_attributes
        self.register_buffer("counts_V", torch.ones(items, dtype=torch.int64), persistent=False)
        self.register_buffer("counts_U", torch.ones(users, dtype=torch.int64), persistent=False)

    def add_first_layer(self, width: int) -> None:
        """Make the parts of the MLP's first layer that read the candidate, the user and the context: [..., M]."""
        self.from_item = nn.Linear(self.items.width, width, bias=False)
        self.from_user = nn.Linear(self.users.width, width, bias=False) if self.users.width else None
        self.from_context = nn.Linear(self.context.width, width, bias=False) if self.context else None

    def prepare(self, item_counts_V: Tensor, user_counts_U: Tensor) -> None:
        self.items.see(item_counts_V)
        self.users.see(user_counts_U)
        self.counts_V.copy_(item_counts_V)
        self.counts_U.copy_(user_counts_U)

    def request(self, batch: Batch) -> Tensor | None:
        """The user's and the context's part of the first layer: [B, 1, M], [B, C, M] where each candidate has a context
        of its own, or None."""
        parts = []
        if self.from_user is not None:
            parts.append(self.from_user(self.users.joined(batch.users_B))[:, None])
        if self.context is not None and self.from_context is not None:
            context = batch.context_BF[:, None] if batch.context_BF is not None else batch.context_BCF
            if context is not None:  # else every value is absent
                parts.append(self.from_context(self.context(context)))
        return None if not parts else parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def penalty(self, batch: Batch) -> Tensor | None:
        """Mini-batch-aware L2: l2 / 2 times the squares of a batch's vectors, each over its training events."""
        if not self.training or not self.l2:
            return None
        assert batch.candidates_BC is not None
        items_N = torch.cat([batch.items_BL.flatten(), batch.candidates_BC.flatten()])
        return 0.5 * self.l2 * self._squares_over_counts(items_N, batch.users_B)

    def _squares_over_counts(self, items_N: Tensor, users_B: Tensor) -> Tensor:
        """|w_j|^2 / n_j, summed over the items and users j of a batch, with n_j their training events: once each (Zhou
        et al. 2018, arXiv 1706.06978, eq. 6), or as often as the batch holds them, n_jB / n_j. Eq. 5, which eq. 6
        approximates, counts the samples that hold j; here it is the events and candidates.

        With `l2_attributes` their attributes' values count likewise, with n_j the training events of all that have the
        value; the paper regularises all features. Those of a request's context are left out.
        """
        penalty = _squares(self.items.own, items_N, self.counts_V, once=self.l2_once)
        if self.users.own is not None:
            penalty = penalty + _squares(self.users.own, users_B, self.counts_U, once=self.l2_once)
        if self.l2_attributes:
            for table, rows_N in ((self.items, items_N), (self.users, users_B)):
                for attribute in table.attributes.values():
                    assert isinstance(attribute, AttributeEmbedding)
                    values_N = attribute.values_RW[rows_N].flatten()
                    penalty = penalty + _squares(attribute.table, values_N, attribute.counts_A, once=self.l2_once)
        return penalty


def _squares(table: nn.Embedding | None, rows_N: Tensor, counts_R: Tensor, *, once: bool) -> Tensor:
    """Sum over rows, or over distinct ones without asking how many there are: a row counts where it comes first in
    order."""
    assert table is not None
    if once:
        rows_N = rows_N.sort().values
        counted_N = torch.cat([rows_N[:1] > 0, rows_N[1:] > rows_N[:-1]])
    else:
        counted_N = rows_N > 0
    squares_N = table(rows_N).square().sum(-1)
    return (squares_N * counted_N / counts_R[rows_N].clamp(min=1)).sum()
