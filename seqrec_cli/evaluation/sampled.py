"""Targets ranked among a few sampled items instead of the corpus, for comparison with papers that do so.

A rank among sampled items flatters every model, and may put another model first than the whole corpus does; see
`metrics/corrected.py` for what can be mended. Never the default, and part of the protocol's fingerprint.

Legend: R requests, B requests of a batch, T targets, M the most targets of a request, K sampled items, C = M + K.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import target_batches
from seqrec_cli.data.splits import held_out, subsample
from seqrec_cli.data.view import HeldOut
from seqrec_cli.evaluation.drawn import Drawing, Sampling
from seqrec_cli.evaluation.ranks import Ranks, padded_targets, refuse_no_numbers
from seqrec_cli.metrics.corrected import corrected_metrics
from seqrec_cli.metrics.table import user_metric
from seqrec_cli.models.contract import Recommender

DRAWN_AT_ONCE = 1 << 13  # requests whose sampled items are held at once
CORRECTIONS: dict[str, tuple[str, float]] = {  # by the name in tables: the method and its gamma
    "rank estimate": ("rank", 0.0),
    "CLS": ("cls", 0.0),
    "BV .1": ("bv", 0.1),
    "BV .01": ("bv", 0.01),
}


@dataclass(frozen=True)
class SampledRanks:
    """Ranks among each request's targets and sampled items.

    `above_T` is how many of the sampled items stand above a target (halves where scores tie), `sampled_R` how many were
    drawn, `whole_R` how many items the whole corpus would have had, the targets included.
    """

    ranks: Ranks
    above_T: np.ndarray
    sampled_R: np.ndarray
    whole_R: np.ndarray


def rank_sampled(
    model: Recommender,
    log: PackedLog,
    split: HeldOut,
    sampling: Sampling,
    *,
    cfg: EvaluationConfig,
    max_length: int,
    device: torch.device,
    seed: int,
) -> SampledRanks:
    """Rank the targets of every held-out request (or of `cfg.ranked_users` requests) among sampled items.

    The items are drawn for some thousand requests at a time, and scored by the model's own `score`. The caller sets
    evaluation mode, autocast and inference mode. Raises SeqrecError where a score is no number.
    """
    targets, drawing = subsample(held_out(log, split), cfg.ranked_users), Drawing(log, sampling, seed)
    parts = []
    for first in range(0, len(targets.rows_R), DRAWN_AT_ONCE):
        some = targets.at(np.arange(first, min(first + DRAWN_AT_ONCE, len(targets.rows_R))))
        items_RM = padded_targets(log, some)
        items_RK, whole_R = drawing.of(some)
        among_RM, above_RM = np.zeros(items_RM.shape), np.zeros(items_RM.shape)
        for picked_B, batch in target_batches(log, some, max_length=max_length, batch_size=cfg.batch_size):
            most = int(some.counts_R[picked_B].max())
            items_BC = torch.from_numpy(np.concatenate([items_RM[picked_B, :most], items_RK[picked_B]], axis=1))
            items_BC = items_BC.to(device)
            scores_BC = model.score(batch.to(device), items_BC)
            among_BM, above_BM = _standing(scores_BC, items_BC > 0, most)
            among_RM[picked_B, :most], above_RM[picked_B, :most] = among_BM.cpu().numpy(), above_BM.cpu().numpy()
        real_RM = items_RM > 0
        parts.append((among_RM[real_RM], above_RM[real_RM], (items_RK > 0).sum(axis=1), whole_R))
    among_T, above_T, sampled_R, whole_R = (np.concatenate(column) for column in zip(*parts, strict=True))
    ranks = Ranks(
        np.asarray(targets.rows_R),
        np.asarray(targets.ends_R),
        targets.ends_R - log.offsets_U1[targets.rows_R],
        targets.counts_R + sampled_R,
        np.asarray(targets.offsets_R1),
        np.asarray(log.items_N[targets.positions_T], np.int64),
        among_T + above_T,
    )
    return SampledRanks(ranks, above_T, sampled_R, whole_R)


def _standing(scores_BC: Tensor, real_BC: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Each target's rank among its request's targets, and the sampled items above it; ties count half [B, M]."""
    scores_BC = scores_BC.masked_fill(~real_BC, -torch.inf)
    refuse_no_numbers(scores_BC)
    scores_BC = scores_BC.masked_fill(~real_BC, torch.nan)  # neither higher than anything nor equal to it
    above = []
    for first, last in ((0, most), (most, scores_BC.shape[1])):
        part_BC, counts = scores_BC[:, first:last], []
        for nth in range(most):
            own_B1 = scores_BC[:, nth : nth + 1]
            counts.append((part_BC > own_B1).sum(1).double() + (part_BC == own_B1).sum(1).double() / 2)
        above.append(torch.stack(counts, dim=1))
    return above[0] + 0.5, above[1]  # a target is equal to itself


def corrected(found: SampledRanks, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Estimates of the metrics over the whole corpus by each of `CORRECTIONS`; for uniform samples alone.

    Where a request has several targets, only the rank is estimated: their own order is known, and of the sampled items
    above each target as many more are taken as the corpus has more.
    """
    ranks, requests_T = found.ranks, found.ranks.requests_T
    others_R = found.whole_R - np.diff(ranks.offsets_R1)
    scale_T = (others_R / np.maximum(found.sampled_R, 1))[requests_T]
    if len(requests_T) > len(ranks.rows_R):
        ranks_T = ranks.ranks_T - found.above_T + found.above_T * scale_T
        values = {name: float(user_metric(name, ranks_T, found.whole_R[requests_T]).mean()) for name in names}
        return {"rank estimate": values}
    estimates = {}
    for label, (method, gamma) in CORRECTIONS.items():
        values_QR = corrected_metrics(
            names,
            ranks.ranks_T,
            sampled_R=found.sampled_R,
            candidates_R=found.whole_R,
            method=method,
            gamma=gamma,
        )
        estimates[label] = dict(zip(names, values_QR.mean(axis=1).tolist(), strict=True))
    return estimates


@dataclass(frozen=True)
class Order:
    """Models by a column of numbers, the best first, beside the order by the first column."""

    models: list[str]
    changed: list[tuple[str, str]]  # pairs the other way round: the one that is ahead here, the one that was
    tau: float  # Kendall's, between both columns


def orders(columns: Mapping[str, Mapping[str, float]]) -> dict[str, Order]:
    """Which models change places between the first column and each other one; a column has a number a model."""
    reference = next(iter(columns.values()))
    found = {}
    for name, column in columns.items():
        models = sorted(column, key=lambda model: -column[model])
        pairs = [(a, b) for nth, a in enumerate(models) for b in models[nth + 1 :]]
        changed = [(a, b) for a, b in pairs if column[a] > column[b] and reference[a] < reference[b]]
        found[name] = Order(models, changed, kendall_tau([reference[m] for m in models], [column[m] for m in models]))
    return found


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b: pairs in one order less pairs in opposite orders, over what they could be at most (ties left out
    of each side); NaN where all of one side are tied."""
    a, b = (np.sign(np.subtract.outer(np.asarray(x), np.asarray(x))) for x in (first, second))
    most = np.sqrt((a != 0).sum() * (b != 0).sum())
    return float((a * b).sum() / most) if most else float("nan")
