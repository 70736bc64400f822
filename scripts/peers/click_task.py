"""What the click peers share: samples from files, the timed steps, and training with selection on validation.

Runs under the Python of the peer's environment, beside `peer_timing`. A peer gives a `Side`; by `request["epochs"]` it
is timed (null), or trained that many epochs, its best one by validation AUC asked for the scores of the test samples.

Legend: S samples, L history places, V items.
"""

import contextlib
import copy
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from peer_timing import Clock, give, now

LR = 1e-3  # of Adam, everywhere


class EnoughError(Exception):
    """The clock has seen enough steps."""


@dataclass(frozen=True)
class Table:
    """Samples, one a row; histories are padded with 0 on the right."""

    history_SL: np.ndarray
    target_S: np.ndarray
    label_S: np.ndarray
    category_V: np.ndarray

    @classmethod
    def read(cls, path: str, multiple: int = 1) -> "Table":
        """The file's samples; with `multiple`, so many that every batch is full."""
        with np.load(path) as file:
            candidates_RC, labels_RC = file["candidates_RC"].astype(np.int64), file["labels_RC"]
            history_RL, category_V = file["history_RL"].astype(np.int64), file["category_V"].astype(np.int64)
        rows_S, columns_S = np.nonzero(candidates_RC)
        kept = len(rows_S) // multiple * multiple
        rows_S, columns_S = rows_S[:kept], columns_S[:kept]
        label_S = labels_RC[rows_S, columns_S].astype(np.float32)
        return cls(history_RL[rows_S], candidates_RC[rows_S, columns_S], label_S, category_V)

    @property
    def lengths_S(self) -> np.ndarray:
        return np.count_nonzero(self.history_SL, axis=1)

    def padded_left(self) -> "Table":
        """The same, with every history at the end of its places."""
        places_L = np.arange(self.history_SL.shape[1])
        from_SL = places_L - (len(places_L) - self.lengths_S)[:, None]
        history_SL = np.where(from_SL >= 0, np.take_along_axis(self.history_SL, np.maximum(from_SL, 0), 1), 0)
        return Table(history_SL, self.target_S, self.label_S, self.category_V)

    def head(self, samples: int) -> "Table":
        return Table(self.history_SL[:samples], self.target_S[:samples], self.label_S[:samples], self.category_V)

    def negatives(self, rng: np.random.Generator) -> np.ndarray:
        """A uniform item beside every event, [S, L], 0 where there is none."""
        drawn_SL = rng.integers(1, len(self.category_V), self.history_SL.shape)
        return np.where(self.history_SL > 0, drawn_SL, 0)

    def __len__(self) -> int:
        return len(self.label_S)


class Side(Protocol):
    """A peer's model with its own loops."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    shape: str

    def train(self, table: Table) -> None:
        """One pass over the samples, in a random order."""
        ...

    def predict(self, table: Table) -> np.ndarray:
        """Scores [S], in the samples' order."""
        ...


def auc(label_S: np.ndarray, score_S: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(label_S, score_S))


def run(request: dict[str, Any], peer: str, distribution: str, build: Callable[[int, int], Side]) -> None:
    """Do what the request asks and print the answer; `build` is told the rows of both tables, padding included."""
    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    np.random.seed(request["seed"])
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # progress bars
        train = Table.read(request["train"], 1 if request["epochs"] else request["batch_size"])
        side = build(len(train.category_V), int(train.category_V.max()) + 1)
        parts = _fit(request, side, train) if request["epochs"] else _time(request, side, train)
    request["precision"] = "fp32"
    give(request, peer, distribution, side.shape, **parts)


def _time(request: dict[str, Any], side: Side, train: Table) -> dict[str, Any]:
    clock = Clock(request)

    def stepped(*given: Any) -> None:
        clock.step(request["batch_size"], request["batch_size"])
        if clock.done:
            raise EnoughError

    hook = side.optimizer.register_step_post_hook(stepped)
    with contextlib.suppress(EnoughError):
        while True:
            side.train(train)
    hook.remove()
    side.optimizer.zero_grad()
    score = Table.read(request["score"])
    side.predict(score.head(request["batch_size"]))
    began = now()
    side.predict(score)
    seconds = now() - began
    return {
        "train": clock.answer("its own training loop, binary cross-entropy; a target is a sample"),
        "evaluate": {"what": "its own predict", "seconds": seconds, "scores_s": len(score) / seconds},
    }


def _fit(request: dict[str, Any], side: Side, train: Table) -> dict[str, Any]:
    val, test = Table.read(request["val"]), Table.read(request["test"])
    found, best, began = list[float](), None, time.perf_counter()
    for epoch in range(request["epochs"]):
        side.train(train)
        found.append(auc(val.label_S, side.predict(val)))
        if found[-1] == max(found):
            best = copy.deepcopy(side.model.state_dict())
        with Path(request["progress"]).open("a", encoding="utf-8") as file:
            file.write(f"epoch {epoch + 1}: validation auc {found[-1]:.4f}, {time.perf_counter() - began:.0f} s\n")
    assert best is not None
    side.model.load_state_dict(best)
    np.savez(request["scores"], labels_S=test.label_S, scores_S=side.predict(test).astype(np.float64))
    return {"fit": {"val_auc": found, "seconds": time.perf_counter() - began}}
