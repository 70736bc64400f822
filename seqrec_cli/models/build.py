"""From a sealed `model` record and the dataset's facts to a model."""

import importlib
from types import ModuleType

import torch

from seqrec_cli.config.schema import ModelConfig
from seqrec_cli.config.slots import module_name
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import Recommender


def module_of(name: str) -> ModuleType:
    """The file of a registered model, with its `Config` and its `Model`."""
    return importlib.import_module(module_name("model", name))


def build_model(cfg: ModelConfig, catalog: Catalog, seed: int) -> Recommender:
    """A fresh model; the same seed gives the same parameters."""
    module = module_of(cfg.name)
    torch.manual_seed(seed)
    model: Recommender = module.Model(module.Config(**cfg.model_dump()), catalog)
    return model
