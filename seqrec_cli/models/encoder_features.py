"""What an encoder reads beside items: the user's attributes, and the context of events and of the request.

A causal encoder that is trained at every position asks at each of them what followed. With the context of the request
it is told there in what context that happened, as it is told at the last event of the request at hand: position i reads
the context of event i + 1, which no earlier position sees. What follows later is told nowhere.

Legend: B rows, L history events, F context attributes, D width.
"""

import torch
from torch import Tensor, nn

from seqrec_cli.config.dataset import TIME_CONTEXT
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model import EncoderConfig
from seqrec_cli.data.batch import MASKED, Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.numbers import context_features, user_features
from seqrec_cli.models.features import features
from seqrec_cli.models.layers.embedding import ContextEmbedding, FeatureEmbedding
from seqrec_cli.models.layers.packed_rows import PackedRows


def reads_time(catalog: Catalog) -> bool:
    """Whether a request's context tells its time."""
    return any(name in TIME_CONTEXT for name in catalog.context_names)


class EncoderFeatures(nn.Module):
    """Vectors to add to an encoder's input, each kind or none, as the settings say."""

    def __init__(self, cfg: EncoderConfig, catalog: Catalog) -> None:
        super().__init__()
        for kind, setting in (("users", "user_attributes"), ("context", "context")):
            if getattr(cfg, setting) != "none" and not features(catalog)[kind]:
                what = "user attributes" if kind == "users" else "context columns"
                raise SeqrecError(
                    f"model.{setting}={getattr(cfg, setting)}: the dataset has no {what}; use model.{setting}=none"
                )
        self.users = None if cfg.user_attributes == "none" else _users(cfg, catalog)
        self.of_events = None if cfg.context == "none" else _context(cfg, catalog)
        self.of_request = _context(cfg, catalog) if cfg.context == "request" else None

    def add_user_attributes(self, x_BLD: Tensor, users_B: Tensor) -> Tensor:
        """x plus the user's attributes at every event."""
        return x_BLD if self.users is None else x_BLD + self.users.summed(users_B)[:, None]

    def add_context(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        """x plus the context of each event, and of the one that is asked for there. A masked event has none to tell."""
        if self.of_events is not None and batch.context_BLF is not None:
            context_BLF = batch.context_BLF.masked_fill((batch.items_BL == MASKED)[..., None], 0)
            x_BLD = x_BLD + self.of_events.summed(context_BLF)
        if self.of_request is not None:
            asked_BLF = asked_contexts(batch)
            x_BLD = x_BLD if asked_BLF is None else x_BLD + self.of_request.summed(asked_BLF)
        return x_BLD

    def add_packed(self, x_P1D: Tensor, batch: Batch, rows: PackedRows) -> Tensor:
        """`add_context` of rows that are laid end to end: each event is a row of its own."""
        if self.of_events is None:
            return x_P1D
        asked_BLF = asked_contexts(batch)
        given = {
            "context_BLF": None if batch.context_BLF is None else rows.pick(batch.context_BLF)[:, None],
            "context_BF": None if asked_BLF is None else rows.pick(asked_BLF),
        }
        items_P1 = rows.pick(batch.items_BL)[:, None]
        return self.add_context(
            x_P1D, Batch(rows.of_rows(batch.users_B), items_P1, torch.ones_like(items_P1[:, 0]), **given)
        )


def asked_contexts(batch: Batch) -> Tensor | None:
    """The context of the event behind each event: of the next one, and of the request at the row's last; else 0."""
    if batch.context_BF is None:
        return None
    context_BLF = batch.context_BLF
    L = batch.items_BL.shape[1]
    last_BL1 = (torch.arange(L, device=batch.items_BL.device) == batch.lengths_B[:, None] - 1)[..., None]
    next_BLF = 0 if context_BLF is None else nn.functional.pad(context_BLF[:, 1:], (0, 0, 0, 1))
    return torch.where(last_BL1, batch.context_BF[:, None], next_BLF)


def _users(cfg: EncoderConfig, catalog: Catalog) -> FeatureEmbedding:
    return FeatureEmbedding(
        catalog.num_users + 1,
        catalog.user_attributes,
        catalog.user_values,
        dim=cfg.embed_dim,
        own=False,
        numbers=user_features(catalog),
    )


def _context(cfg: EncoderConfig, catalog: Catalog) -> ContextEmbedding:
    return ContextEmbedding(catalog.context_attributes, cfg.embed_dim, numbers=context_features(catalog))
