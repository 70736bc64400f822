"""Targets ranked among a few sampled items instead of the corpus, for comparison with papers that do so.

A rank among sampled items flatters every model, and may put another model first than the whole corpus does; see
`candidates.py` for what can be mended. Never the default, and part of the protocol's fingerprint.

Legend: R requests, B requests of a batch, T targets, M the most targets of a request, K sampled items, C = M + K.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.devices import widest_float
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import target_batches
from seqrec_cli.data.splits import held_out, subsample
from seqrec_cli.data.view import HeldOut
from seqrec_cli.evaluation.drawn import Drawing, Sampling
from seqrec_cli.evaluation.ranks import Ranks, padded_targets, refuse_no_numbers
from seqrec_cli.models.contract import Recommender
from seqrec_cli.processes import current

DRAWN_AT_ONCE = 1 << 13  # requests whose sampled items are held at once


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
    *,
    sampling: Sampling,
    cfg: EvaluationConfig,
    max_length: int,
    device: torch.device,
    seed: int,
) -> SampledRanks:
    """Rank the targets of every held-out request (or of `cfg.ranked_users` requests) among sampled items.

    The items are drawn for some thousand requests at a time, and scored by the model's own `score`. The caller sets
    evaluation mode, autocast and inference mode. Of several processes each ranks some batches, and all know all ranks
    afterwards. Raises SeqrecError where a score is no number.
    """
    processes = current()
    targets, drawing = subsample(held_out(log, split), cfg.ranked_users), Drawing(log, sampling, seed)
    parts = []
    for first in range(0, len(targets.rows_R), DRAWN_AT_ONCE):
        some = targets.at(np.arange(first, min(first + DRAWN_AT_ONCE, len(targets.rows_R))))
        items_RM = padded_targets(log, some)
        items_RK, whole_R = drawing.of(some)
        among_RM, above_RM = np.zeros(items_RM.shape), np.zeros(items_RM.shape)
        batches = target_batches(log, some, max_length=max_length, batch_size=cfg.batch_size, share=processes.share)
        for picked_B, batch in batches:
            most = int(some.counts_R[picked_B].max())
            items_BC = torch.from_numpy(np.concatenate([items_RM[picked_B, :most], items_RK[picked_B]], axis=1))
            items_BC = items_BC.to(device)
            scores_BC = model.score(batch.to(device), items_BC)
            among_BM, above_BM = _standing(scores_BC, items_BC > 0, most)
            among_RM[picked_B, :most], above_RM[picked_B, :most] = among_BM.cpu().numpy(), above_BM.cpu().numpy()
        processes.sum_array(among_RM)
        processes.sum_array(above_RM)
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
    above, wide = [], widest_float(scores_BC.device)
    for first, last in ((0, most), (most, scores_BC.shape[1])):
        part_BC, counts = scores_BC[:, first:last], []
        for nth in range(most):
            own_B1 = scores_BC[:, nth : nth + 1]
            counts.append((part_BC > own_B1).sum(1).to(wide) + (part_BC == own_B1).sum(1).to(wide) / 2)
        above.append(torch.stack(counts, dim=1))
    return above[0] + 0.5, above[1]  # a target is equal to itself
