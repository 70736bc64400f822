"""Floating-point operations of a training step, as a function of the batch's shape.

They are a sum of terms in rows, tokens (rows x length), pairs (rows x length^2), targets or candidates, and reads
(these x length), whatever the model. So they are counted on a few rows, and the sum holds for every batch of an
epoch before any of them is run. A model whose work follows other terms (length^3, say) is outside this file's reach.

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

from seqrec_cli.data.batch import Batch, part_bounds
from seqrec_cli.data.batching import RowSizes
from seqrec_cli.data.sizes import padded_length
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
    pairs_S: np.ndarray  # of two events of a row
    targets_S: np.ndarray  # or candidates
    reads_S: np.ndarray  # pairs of a target or candidate and an event of its row

    @classmethod
    def of(
        cls, batches: Iterable[RowSizes], padded: bool, candidates: int | None, micro_batch_tokens: int | None = None
    ) -> "Shapes":
        """From each batch's row lengths and targets a row: as computed, in parts of `micro_batch_tokens`, or as if
        nothing were padded.

        `candidates` stand beside each target, itself included; None where targets are scored without (windows).
        """
        table = []
        for lengths_B, targets_B in batches:
            lengths, each = np.asarray(lengths_B, np.int64), np.asarray(targets_B, np.int64)
            if padded:
                bounds = part_bounds(lengths.tolist(), micro_batch_tokens)
                lengths = np.repeat(
                    [padded_length(int(lengths[first:last].max()), int(lengths.max())) for first, last in bounds],
                    [last - first for first, last in bounds],
                )
                each = each if candidates is None else np.full_like(each, each.max())
            each = each * (candidates or 1)
            table.append((len(lengths), lengths.sum(), (lengths**2).sum(), each.sum(), (each * lengths).sum()))
        return cls(*np.asarray(table, np.float64).reshape(-1, 5).T)

    @classmethod
    def of_batch(cls, batch: Batch) -> "Shapes":
        """One batch as it is computed, its padding included."""
        B, L = batch.items_BL.shape
        targets = count_targets(batch) if batch.candidates_BC is None else batch.candidates_BC.numel()
        return cls(*np.asarray([[B, B * L, B * L * L, targets, targets * L]], np.float64).T)

    def terms(self) -> np.ndarray:
        """[S, 6]: the constant 1, rows, tokens, pairs, targets, reads."""
        columns = (self.rows_S, self.tokens_S, self.pairs_S, self.targets_S, self.reads_S)
        return np.stack((np.ones_like(self.rows_S), *columns), axis=1)


@dataclass(frozen=True)
class StepFlops:
    """FLOPs by their coefficients: once a step, and for each row, token, pair, target and read."""

    coefficients_6: np.ndarray

    def total(self, shapes: Shapes) -> np.ndarray:
        """FLOPs of each batch, [S]."""
        return np.round(shapes.terms() @ self.coefficients_6)

    def parts(self, shapes: Shapes) -> dict[str, float]:
        """The batches' FLOPs together, by what they grow with: tokens (layers), pairs of events, or of target
        and event (attention), targets (loss and read-out), or nothing (once)."""
        once, rows, tokens, pairs, targets, reads = shapes.terms().sum(axis=0) * self.coefficients_6
        parts = {"layers": tokens, "attention": pairs + reads, "targets": rows + targets, "once": once}
        return {name: float(round(value)) for name, value in parts.items()}


def step_flops(model: Recommender, objective: Objective, batch: Batch, precision: Precision) -> StepFlops:
    """The law of a step's FLOPs, solved from small crops of a real batch. Weights stay as they are."""
    crops = list(_crops(batch))
    flops_S = np.array([count_flops(model, objective, small, precision) for small in crops], np.float64)
    terms_S6 = np.concatenate([Shapes.of_batch(small).terms() for small in crops])
    scale_6 = np.maximum(np.abs(terms_S6).max(axis=0), 1)
    # Terms that always go together share their cost: the shortest solution.
    solved_6 = np.linalg.lstsq(terms_S6 / scale_6, flops_S, rcond=None)[0]
    return StepFlops(solved_6 / scale_6)


def _crops(batch: Batch) -> Iterator[Batch]:
    """Two and four rows, three lengths, all candidates and half of them (or four targets and two): enough to tell the
    terms apart."""
    candidates = 4 if batch.candidates_BC is None else batch.candidates_BC.shape[1]
    longest = max(int(batch.lengths_B.max()), 1)
    L, middle, short = (max(min(2, longest), longest * k // 3) for k in (3, 2, 1))
    all_, half = candidates, max(candidates // 2, 1)
    for rows, length, targets in (
        (2, L, all_),
        (2, middle, all_),
        (2, short, all_),
        (4, L, all_),
        (2, L, half),
        (2, middle, half),
    ):
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
