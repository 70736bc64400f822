"""From a `model` record and the dataset's facts to a model."""

import torch

from seqrec_cli.config.model import ModelConfig
from seqrec_cli.config.registry import code_of
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import Recommender


def build_model(cfg: ModelConfig, catalog: Catalog, seed: int) -> Recommender:
    """A fresh model; the same seed gives the same parameters."""
    torch.manual_seed(seed)
    return model_of(cfg, catalog)


def model_of(cfg: ModelConfig, catalog: Catalog) -> Recommender:
    """The registered model of that name, from torch's random numbers as they stand."""
    model: Recommender = code_of("model", cfg.name).Model(cfg, catalog)
    return model
