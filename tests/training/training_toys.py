"""A recommender, an objective and rows small enough to train in milliseconds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqrec_cli.config.schema import TrainerConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import Objective
from seqrec_cli.training import optim
from seqrec_cli.training.fitting import FitResult, Listener
from seqrec_cli.training.loop import fit
from seqrec_cli.training.precision import Precision

CPU = Precision(torch.device("cpu"), "fp32")
HEADER = {"config": {"model": {"name": "toy"}}, "facts": {"num_items": 9}, "fingerprint": "abc"}
DEFAULTS = {
    "max_epochs": 4,
    "max_steps": None,
    "minutes": None,
    "batch_size": 4,
    "batch_tokens": None,
    "bucket_by_length": True,
    "micro_batch_tokens": None,
    "seed": 3,
    "seeds": 1,
    "lr": 0.05,
    "betas": (0.9, 0.98),
    "weight_decay": 0.1,
    "decay_embeddings": False,
    "warmup_steps": 2,
    "schedule": "cosine",
    "final_lr": 0.1,
    "plateau": None,
    "plateau_factor": 0.5,
    "swa_epochs": None,
    "ema": None,
    "clip_norm": 1.0,
    "monitor": "ndcg@10",
    "patience": None,
    "evaluate_every": 1,
}


def settings(**changes: Any) -> TrainerConfig:
    return TrainerConfig(**{**DEFAULTS, **changes})


def update(
    loss: Tensor, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, *, lr: float, clip_norm: float | None
) -> None:
    """Backward and an update of the weights."""
    scaler.scale(loss).backward()
    optim.update(optimizer, scaler, lr=lr, clip_norm=clip_norm)


class ToyModel(Recommender):
    """The mean of the history's vectors, through one layer with norm and dropout, to a logit an item."""

    def __init__(self) -> None:
        super().__init__(Catalog(num_users=8, num_items=9))
        self.items = nn.Embedding(10, 6)
        self.layer, self.norm, self.drop = nn.Linear(6, 6), nn.LayerNorm(6), nn.Dropout(0.5)
        self.out = nn.Linear(6, 10)

    def score_corpus(self, batch: Batch) -> Tensor:
        return self.out(self.drop(self.norm(self.layer(self.items(batch.items_BL).mean(1)))))


class ToyObjective(Objective):
    def loss(self, model: Recommender, batch: Batch) -> Tensor:
        assert batch.targets_BL is not None
        return nn.functional.cross_entropy(model.score_corpus(batch).float(), batch.targets_BL[:, -1])


class ToyRows:
    """Five batches an epoch, drawn from the epoch's number; `at` calls something before a step of an epoch."""

    steps = 5

    def __init__(self, at: dict[tuple[int, int], Callable[[], None]] | None = None) -> None:
        self.at = at or {}

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        items_NBL = np.random.default_rng(epoch).integers(1, 10, (self.steps, 4, 3))
        for step in range(start, self.steps):
            self.at.get((epoch, step), lambda: None)()
            items_BL = torch.from_numpy(items_NBL[step])
            users_B, lengths_B = torch.arange(1, 5), torch.full((4,), 3)
            yield Batch(users_B, items_BL, lengths_B, targets_BL=items_BL.roll(-1, 1))


class Recorder(Listener):
    """A listener that remembers what it was told."""

    def __init__(self) -> None:
        self.started: tuple[int, int] | None = None
        self.steps: list[tuple[int, float | None, float, int]] = []
        self.rows: list[dict[str, Any]] = []
        self.ended = 0

    def on_start(self, total_steps: int, first_step: int) -> None:
        self.started = (total_steps, first_step)

    def on_step(self, step: int, loss: float | None, *, lr: float, targets: int) -> None:
        self.steps.append((step, loss, lr, targets))

    def on_validation(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def on_end(self) -> None:
        self.ended += 1


def toy_model() -> ToyModel:
    torch.manual_seed(0)
    return ToyModel()


def train(
    folder: Path,
    cfg: TrainerConfig | None = None,
    model: Recommender | None = None,
    rows: Any = None,
    objective: Objective | None = None,
    scores: Iterator[float] | None = None,
    resume_from: dict[str, Any] | None = None,
    precision: Precision = CPU,
) -> tuple[FitResult, Recommender, Recorder]:
    """One fit. `scores` are the validation results; by default they follow from the weights."""
    model, listener = model or toy_model(), Recorder()

    def validate() -> dict[str, float]:
        assert not model.training
        value = next(scores) if scores else sum(p.detach().double().abs().sum().item() for p in model.parameters())
        return {"ndcg@10": value, "logloss": value}

    result = fit(
        model,
        objective or ToyObjective(),
        rows or ToyRows(),
        cfg=cfg or settings(),
        precision=precision,
        validate=validate,
        header=HEADER,
        folder=folder,
        listener=listener,
        resume_from=resume_from,
    )
    return result, model, listener
