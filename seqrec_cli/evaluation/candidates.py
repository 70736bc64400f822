"""One model's metrics by what its targets are ranked among: the corpus, or sampled items, and what is estimated from
those.

Legend: R requests, T targets, Q metrics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import view_of
from seqrec_cli.data.view import HeldOut
from seqrec_cli.evaluation.drawn import Sampling
from seqrec_cli.evaluation.evaluate import measuring
from seqrec_cli.evaluation.ranks import Ranks, rank_held_out
from seqrec_cli.evaluation.sampled import SampledRanks, rank_sampled
from seqrec_cli.metrics.corrected import corrected_metrics
from seqrec_cli.metrics.kinds import TargetRanks
from seqrec_cli.metrics.table import compute_metrics, request_metric, several_targets
from seqrec_cli.models.contract import Recommender
from seqrec_cli.training.precision import Precision

CORRECTIONS: dict[str, tuple[str, float]] = {  # by the name in tables: the method and its gamma
    "rank estimate": ("rank", 0.0),
    "CLS": ("cls", 0.0),
    "BV .1": ("bv", 0.1),
    "BV .01": ("bv", 0.01),
}


def among(
    model: Recommender,
    log: PackedLog,
    split: HeldOut,
    *,
    kinds: Sequence[str],
    first: Ranks,
    cfg: EvaluationConfig,
    max_length: int,
    precision: Precision,
) -> dict[str, dict[str, Any]]:
    """By kind of candidates: `metrics` of ranks, and where they are a uniform sample, `corrected` ones by estimator.

    `first` are the ranks by the first kind, if that is the whole corpus: they are not counted again.
    """
    found = {}
    seed = view_of(log).manifest["settings"]["seed"]
    for kind in kinds:
        sampling = Sampling.of(kind)
        with measuring(model, precision):
            if sampling is not None:
                sampled = rank_sampled(
                    model,
                    log,
                    split,
                    sampling=sampling,
                    cfg=cfg,
                    max_length=max_length,
                    device=precision.device,
                    seed=seed,
                )
                ranks = sampled.ranks
            elif kind == kinds[0]:
                ranks = first
            else:
                ranks, _ = rank_held_out(model, log, split, cfg=cfg, max_length=max_length, device=precision.device)
        metrics = compute_metrics(cfg.cutoffs, ranks=ranks)
        estimates = corrected(sampled, list(metrics)) if sampling is not None and sampling.kind == "uniform" else {}
        found[kind] = {"metrics": metrics, "corrected": estimates}
    return found


def corrected(found: SampledRanks, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Estimates of the metrics over the whole corpus by each of `CORRECTIONS`; for uniform samples alone.

    Where a request has several targets, only the rank is estimated: their own order is known, and of the sampled items
    above each target as many more are taken as the corpus has more.
    """
    ranks, requests_T = found.ranks, found.ranks.requests_T
    others_R = found.whole_R - np.diff(ranks.offsets_R1)
    scale_T = (others_R / np.maximum(found.sampled_R, 1))[requests_T]
    if several_targets(ranks):
        ranks_T = ranks.ranks_T - found.above_T + found.above_T * scale_T
        read = TargetRanks(ranks_T, ranks.offsets_R1, found.whole_R)
        return {"rank estimate": {name: float(request_metric(name, read).mean()) for name in names}}
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
