"""Useful floating-point operations of training steps, whatever their padding.

They are a sum of terms in rows, tokens (rows x length), pairs (rows x length^2), targets or candidates, and reads
(these x length), whatever the model. So they are counted on a few small batches, and the sum holds for any other.

Legend: S batches, B rows of a batch, L history events.
"""

from collections.abc import Iterable
from dataclasses import fields, replace

import numpy as np
import torch

from seqrec_cli.data.batch import Batch, count_targets
from seqrec_cli.data.batching import RowSizes
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import Objective
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.step_cost import count_flops

# What the loader knows of a batch, beside its events and targets: found again where it is missing.
KNOWN = ("positions_N", "masked_BM", "host_lengths_B", "host_taught_B")


def useful_terms(batches: Iterable[RowSizes], candidates: int | None) -> np.ndarray:
    """[S, 6]: 1, rows, tokens, pairs, targets and reads of each batch, as if nothing were padded.

    `candidates` are scored for each target, itself included; None where targets are scored without (windows).
    """
    table = []
    for lengths_B, targets_B in batches:
        lengths, each = np.asarray(lengths_B, np.int64), np.asarray(targets_B, np.int64) * (candidates or 1)
        table.append((1, len(lengths), lengths.sum(), (lengths**2).sum(), each.sum(), (each * lengths).sum()))
    return np.asarray(table, np.float64).reshape(-1, 6)


def batch_terms(batch: Batch) -> np.ndarray:
    """[6]: the same of one batch as it is computed, its padding included."""
    B, L = batch.items_BL.shape
    targets = count_targets(batch) if batch.candidates_BC is None else batch.candidates_BC.numel()
    return np.asarray((1, B, B * L, B * L * L, targets, targets * L), np.float64)


def flops_of_terms(model: Recommender, objective: Objective, batch: Batch, *, precision: Precision) -> np.ndarray:
    """[6]: FLOPs once a step and for each row, token, pair, target and read, solved from small cuts of a real batch."""
    cuts = small_cuts(batch)
    flops_S = np.array([count_flops(model, objective, cut, precision=precision) for cut in cuts], np.float64)
    terms_S6 = np.stack([batch_terms(cut) for cut in cuts])
    scale_6 = np.maximum(np.abs(terms_S6).max(axis=0), 1)
    # Terms that always go together share their cost: the shortest solution.
    solved_6: np.ndarray = np.linalg.lstsq(terms_S6 / scale_6, flops_S, rcond=None)[0]
    return solved_6 / scale_6


def by_part(terms_S6: np.ndarray, flops_6: np.ndarray) -> dict[str, float]:
    """The batches' FLOPs together, by what they grow with: tokens (layers), pairs of events, or of target and event
    (attention), targets (loss and read-out), or nothing (once)."""
    once, rows, tokens, pairs, targets, reads = terms_S6.sum(axis=0) * flops_6
    parts = {"layers": tokens, "attention": pairs + reads, "targets": rows + targets, "once": once}
    return {name: float(round(value)) for name, value in parts.items()}


def small_cuts(batch: Batch) -> list[Batch]:
    """Two and four rows, three lengths, all candidates and half of them (or four targets and two): enough to tell the
    terms apart."""
    whole = 4 if batch.candidates_BC is None else batch.candidates_BC.shape[1]
    longest = max(int(batch.lengths_B.max()), 1)
    L, middle, short = (max(min(2, longest), longest * k // 3) for k in (3, 2, 1))
    half = max(whole // 2, 1)
    sizes = ((2, L, whole), (2, middle, whole), (2, short, whole), (4, L, whole), (2, L, half), (2, middle, half))
    return [cut(batch, rows, length, targets) for rows, length, targets in sizes]


def cut(batch: Batch, rows: int, length: int, targets: int) -> Batch:
    """`rows` copies of the longest row, cut to `length` events and the first `targets` targets or candidates."""
    take_B = batch.lengths_B.argmax().repeat(rows)
    parts: dict[str, torch.Tensor | None] = dict.fromkeys(KNOWN)
    for name in (f.name for f in fields(batch)):
        tensor = getattr(batch, name)
        if tensor is not None and name not in KNOWN:
            width = length if name.endswith(("_BL", "_BLK")) else targets
            parts[name] = tensor[take_B] if name.endswith("_B") else tensor[take_B, :width]
    parts["lengths_B"] = batch.lengths_B[take_B].clamp(max=length)
    if parts.get("targets_BL") is not None:
        parts["targets_BL"][:, :targets].clamp_(min=1)  # cloze: not every event is a target
        parts["targets_BL"][:, targets:] = 0
    if batch.ends_BC is not None:
        parts["ends_BC"] = batch.ends_BC[take_B, :targets].clamp(max=length)
    return replace(batch, **parts)  # type: ignore[arg-type]
