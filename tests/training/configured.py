"""Models, objectives and rows from overrides, as the command line gives them, on a toy log."""

from typing import cast

import torch
from toylog import packed, random_histories

from seqrec_cli.commands.train import training_rows
from seqrec_cli.config.compose import compose
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.batching import BatchedRows
from seqrec_cli.data.splits import training_counts
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import Objective, build_objective

LOG = packed(random_histories(40, 30, 20), 30)
DEVICE = torch.device("cpu")


def config(overrides: list[str]) -> TrainConfig:
    return cast(TrainConfig, validate("train", compose("train", ["model.max_length=20", *overrides])))


def built(overrides: list[str]) -> tuple[Recommender, Objective, BatchedRows]:
    cfg = config(["trainer.batch_size=8", *overrides])
    objective = build_objective(cfg.objective)
    objective.prepare(torch.from_numpy(training_counts(LOG)))
    return build_model(cfg.model, LOG.catalog, 0), objective, training_rows(cfg, objective, LOG, device=DEVICE)


def batch_of(lengths: list[int]) -> Batch:
    """Windows of these lengths with a target at every event."""
    lengths_B = torch.tensor(lengths)
    real_BL = torch.arange(max(lengths)) < lengths_B[:, None]
    items_BL = real_BL * (1 + torch.arange(max(lengths)))
    return Batch(torch.arange(len(lengths)) + 1, items_BL, lengths_B, targets_BL=items_BL)
