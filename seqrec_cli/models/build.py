"""From a `model` record and the dataset's facts to a model."""

import contextlib

import torch

from seqrec_cli.config.model import EncoderConfig, ModelConfig
from seqrec_cli.config.registry import code_of
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import Recommender


def build_model(cfg: ModelConfig, catalog: Catalog, seed: int) -> Recommender:
    """A fresh model; the same seed gives the same parameters."""
    torch.manual_seed(seed)
    return model_of(cfg, catalog)


def build_sharded(cfg: EncoderConfig, catalog: Catalog, seed: int) -> Recommender:
    """A fresh model of which this process has some rows of each table of items or users.

    Small tables are those of `build_model`, cut; of larger ones a process makes its rows alone.
    """
    from seqrec_cli.models.layers import sharded_table

    small = (max(catalog.num_items, catalog.num_users) + 1) * cfg.embed_dim <= sharded_table.MADE_WHOLE
    with contextlib.nullcontext() if small else sharded_table.made_in_shards():
        model = build_model(cfg, catalog, seed)
    sharded_table.cut_tables(model)
    return model


def model_of(cfg: ModelConfig, catalog: Catalog) -> Recommender:
    """The registered model of that name, from torch's random numbers as they stand."""
    model: Recommender = code_of("model", cfg.name).Model(cfg, catalog)
    return model
