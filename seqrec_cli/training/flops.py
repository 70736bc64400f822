"""Floating-point operations of a training step, as a function of the batch's shape.

They are a sum of terms in rows, tokens (rows x length), pairs (rows x length^2) and targets, whatever the model. So
they are counted on a few rows, and the sum holds for every batch of an epoch before any of them is run. A model whose
work follows other terms (length^3, say) is outside this file's reach.

Legend: S batches, B rows of a batch, L history events.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import Objective
from seqrec_cli.training.loop import count_targets
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.rehearsal import crop, loss_of, rehearsing


@dataclass(frozen=True)
class Shapes:
    """Batches by what their work depends on, float64 [S] each."""

    rows_S: np.ndarray
    tokens_S: np.ndarray
    pairs_S: np.ndarray  # of a query's and a key's place
    targets_S: np.ndarray

    @classmethod
    def of(cls, batches: Iterable[tuple[np.ndarray, int]], padded: bool) -> "Shapes":
        """From each batch's row lengths and number of targets: as it is computed, or as if nothing were padded."""
        table = []
        for lengths_B, targets in batches:
            lengths = lengths_B.astype(np.int64)
            filled = np.full_like(lengths, max(int(lengths.max()), 1)) if padded else lengths
            table.append((len(lengths), filled.sum(), (filled**2).sum(), targets))
        return cls(*np.asarray(table, np.float64).reshape(-1, 4).T)

    @classmethod
    def of_batch(cls, batch: Batch) -> "Shapes":
        """One batch as it is computed, its padding included."""
        B, L = batch.items_BL.shape
        return cls(*np.asarray([[B, B * L, B * L * L, count_targets(batch)]], np.float64).T)

    def terms(self) -> np.ndarray:
        """[S, 5]: the constant 1, rows, tokens, pairs, targets."""
        columns = (np.ones_like(self.rows_S), self.rows_S, self.tokens_S, self.pairs_S, self.targets_S)
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class StepFlops:
    """FLOPs by their five coefficients: once a step, and for each row, token, pair and target."""

    coefficients_5: np.ndarray

    def total(self, shapes: Shapes) -> np.ndarray:
        """FLOPs of each batch, [S]."""
        return np.round(shapes.terms() @ self.coefficients_5)

    def parts(self, shapes: Shapes) -> dict[str, float]:
        """The batches' FLOPs together, by what they grow with: tokens (layers), pairs (attention), targets (the loss,
        and all that reads candidates), or nothing (once)."""
        once, rows, tokens, pairs, targets = shapes.terms().sum(axis=0) * self.coefficients_5
        parts = {"layers": tokens, "attention": pairs, "targets": rows + targets, "once": once}
        return {name: float(round(value)) for name, value in parts.items()}


def step_flops(model: Recommender, objective: Objective, batch: Batch, precision: Precision) -> StepFlops:
    """The law of a step's FLOPs, solved from small crops of a real batch on the host. Weights stay as they are."""
    crops = list(_crops(batch))
    flops_S = np.array([count_flops(model, objective, small, precision) for small in crops], np.float64)
    terms_S5 = np.concatenate([Shapes.of_batch(small).terms() for small in crops])
    scale_5 = np.abs(terms_S5).max(axis=0)
    # Terms that always go together (prefixes: targets and rows) share their cost: the shortest solution.
    solved_5 = np.linalg.lstsq(terms_S5 / scale_5, flops_S, rcond=None)[0]
    return StepFlops(solved_5 / scale_5)


def _crops(batch: Batch) -> Iterator[Batch]:
    """Two and four rows, three lengths, one target a row and two: enough to tell the terms apart."""
    longest = max(int(batch.lengths_B.max()), 1)
    lengths = [max(min(2, longest), longest * k // 3) for k in (3, 2, 1)]
    for rows, length, targets in (*((2, length, 1) for length in lengths), (4, longest, 1), (2, longest, 2)):
        yield crop(batch, rows, length, targets)


def _added_product(sum_shape: Any, a_shape: Any, b_shape: Any, out_shape: Any = None, **scales: Any) -> int:
    return 2 * math.prod(a_shape) * int(b_shape[-1])


IN_PLACE = {torch.ops.aten.addmm_: _added_product, torch.ops.aten.baddbmm_: _added_product}  # torch's counter has none


def count_flops(model: Recommender, objective: Objective, batch: Batch, precision: Precision) -> int:
    """FLOPs of one forward and backward pass: two for each multiply-add of a matrix product, all else free.

    Attention counts as plain products over the whole square, causal or not: what a fused kernel recomputes in
    backward is not work of the model.
    """
    counter = FlopCounterMode(display=False, custom_mapping=IN_PLACE)
    with rehearsing(model, precision), counter, sdpa_kernel(SDPBackend.MATH):
        loss_of(model, objective, batch, precision).backward()
    return int(counter.get_total_flops())
