"""Which mixture of models ranks validation targets best: few weights, found on some requests and judged on others.

A model far below the best one, such as an encoder that had no time to learn, has a part only if that helps requests
that its weight was not found on. What all of this is worth is judged on requests that had no part in it.

Each model's log-probabilities are read for its own best items and the target alone: an item that stands among no
model's first hundred stands among no sensible mixture's first ten.

Legend: M models, B rows of a batch, R requests, P items of a request's pool (the target first), V items, K best items.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import target_batches
from seqrec_cli.data.splits import held_out, subsample, view_of
from seqrec_cli.evaluation.evaluate import measuring
from seqrec_cli.evaluation.ranks import seen_positions
from seqrec_cli.models.auto import Model
from seqrec_cli.training.precision import Precision

BEST = 100  # items of each model in a request's pool
SCORES = 2**28  # scores of one model that are read in all: fewer requests of a larger corpus
SCORES_AT_ONCE = 2**22
STEPS = (1.0, 0.5, 0.25, -0.25, -0.5, -1.0)  # a weight's change, beside the first model's 1
ROUNDS = 8
GAIN = 1e-4  # NDCG@10 that a change of weights must bring
NOWHERE = -1e4  # for what is no candidate: finite, so that weighted sums are
FAR_BELOW = 0.5  # of the best model's NDCG@10
FEWEST = 50  # requests to find weights by


@dataclass(frozen=True)
class Pools:
    """Log-probabilities [M, R, P] of the pools' items, the target at 0; NOWHERE where there is no item."""

    keys: tuple[str, ...]
    shares_MRP: Tensor

    def mixed(self, weights_M: Sequence[float]) -> Tensor:
        """The weighted sum [R, P]."""
        return sum(weight * self.shares_MRP[nth] for nth, weight in enumerate(weights_M) if weight)  # type: ignore[return-value]


def pool_gains(mixed_RP: Tensor) -> Tensor:
    """NDCG@10 of the target in each request's pool [R], ties at their mean."""
    own_R1, others_RP = mixed_RP[:, :1], mixed_RP[:, 1:]
    ranks_R = 1 + ((others_RP > own_R1).sum(1) + (others_RP >= own_R1).sum(1)) / 2
    return torch.where(ranks_R <= 10, 1 / (1 + ranks_R).log2(), 0.0)


def pool_ndcg(mixed_RP: Tensor) -> float:
    """Their mean."""
    return float(pool_gains(mixed_RP).mean())


def read_pools(model: Model, log: PackedLog, *, requests: int, max_length: int, precision: Precision) -> Pools:
    """Of every member of `model`, on a fixed sample of the validation requests (of several targets the first)."""
    columns, keys = log.num_items + 1, tuple(model.members)
    targets = subsample(held_out(log, "val"), max(FEWEST, min(requests, SCORES // columns)))
    removes_seen, parts = view_of(log).seen == "remove", []
    with measuring(model, precision):
        rows = max(1, SCORES_AT_ONCE // columns)
        for picked_B, batch in target_batches(log, targets, max_length=max_length, batch_size=rows):
            first_B = np.asarray(targets.positions_T)[np.asarray(targets.offsets_R1)[picked_B]]
            target_B1 = torch.from_numpy(log.items_N[first_B].astype(np.int64))[:, None].to(precision.device)
            seen_E = np.zeros(0, np.int64)
            if removes_seen:
                seen_E = seen_positions(log, targets.rows_R[picked_B], targets.ends_R[picked_B])
            gone_E = torch.from_numpy(seen_E.astype(np.int64)).to(precision.device)
            parts.append(_pool(model, keys, batch.to(precision.device), target_B1=target_B1, gone_E=gone_E))
    return Pools(keys, torch.cat(parts, dim=1))


def _pool(  # type: ignore[no-untyped-def]
    model: Model, keys: tuple[str, ...], batch, *, target_B1: Tensor, gone_E: Tensor
) -> Tensor:
    each, best = [], [target_B1]
    for key in keys:
        shares_BV = model.shares(key, batch).contiguous()
        own_B1 = shares_BV.gather(1, target_B1)
        shares_BV.view(-1).index_fill_(0, gone_E, NOWHERE)
        shares_BV.scatter_(1, target_B1, own_B1)
        shares_BV[:, 0] = NOWHERE
        each.append(shares_BV)
        best.append(shares_BV.topk(min(BEST, shares_BV.shape[1] - 1), dim=1).indices)
    ids_BP = torch.cat([target_B1, torch.cat(best[1:], dim=1).sort(dim=1).values], dim=1)
    twice_BP = torch.zeros_like(ids_BP, dtype=torch.bool)
    twice_BP[:, 2:] = ids_BP[:, 2:] == ids_BP[:, 1:-1]
    twice_BP[:, 1:] |= ids_BP[:, 1:] == target_B1
    shares_MBP = torch.stack([shares_BV.gather(1, ids_BP) for shares_BV in each])
    width = BEST * len(keys) + 1
    padded = torch.nn.functional.pad(
        shares_MBP.masked_fill(twice_BP, NOWHERE), (0, width - ids_BP.shape[1]), value=NOWHERE
    )
    return padded.cpu()


@dataclass(frozen=True)
class Mixture:
    """Weights that sum to 1, and what they promise on requests that they were not found on."""

    weights: dict[str, float]
    ndcg: float  # each half's, by members and weights found on the other
    best_alone: float  # the best model's alone on the same requests


def find_mixture(pools: Pools) -> Mixture:
    """The best mixture, or the best model alone where mixing gains nothing on the halves that were left out."""
    models, count = len(pools.keys), pools.shares_MRP.shape[1]
    alone_M = [pool_ndcg(shares_RP) for shares_RP in pools.shares_MRP]
    best = int(np.argmax(alone_M))
    single = Mixture({pools.keys[best]: 1.0}, alone_M[best], alone_M[best])
    if models == 1 or count < FEWEST:
        return single
    one, other = _halves(pools)
    gains_R = torch.cat([pool_gains(other.mixed(_chosen(one))), pool_gains(one.mixed(_chosen(other)))])
    if (left_out := float(gains_R.mean())) <= alone_M[best] + GAIN:
        return single
    weights_M = _chosen(pools)
    total = sum(weights_M)
    kept = {key: round(weight / total, 4) for key, weight in zip(pools.keys, weights_M, strict=True) if weight}
    return Mixture(kept, left_out, alone_M[best])


def _halves(pools: Pools) -> tuple[Pools, Pools]:
    order_R = torch.randperm(pools.shares_MRP.shape[1], generator=torch.Generator().manual_seed(0))
    return Pools(pools.keys, pools.shares_MRP[:, order_R[::2]]), Pools(pools.keys, pools.shares_MRP[:, order_R[1::2]])


def _chosen(pools: Pools) -> list[float]:
    """Weights found on these requests; none for a model far below the best unless by weights that the other half of
    the requests gave its part brings more than a standard error."""
    alone_M = [pool_ndcg(shares_RP) for shares_RP in pools.shares_MRP]
    best, among = int(np.argmax(alone_M)), set(range(len(alone_M)))
    first_M = [float(nth == best) for nth in sorted(among)]
    weights_M = _climbed(pools, first_M, among=among)
    halves = _halves(pools)

    def left_out(members: set[int]) -> Tensor:
        one_M, other_M = (_climbed(half, first_M, among=members) for half in halves)
        return torch.cat([pool_gains(halves[0].mixed(other_M)), pool_gains(halves[1].mixed(one_M))])

    for nth in sorted(among, key=alone_M.__getitem__):
        if not weights_M[nth] or alone_M[nth] >= FAR_BELOW * alone_M[best]:
            continue
        brought_R = left_out(among) - left_out(among - {nth})
        if brought_R.mean() <= max(GAIN, float(brought_R.std()) / len(brought_R) ** 0.5):
            among.remove(nth)
            weights_M = _climbed(pools, first_M, among=among)
    return weights_M


def _climbed(pools: Pools, weights_M: Sequence[float], *, among: Collection[int]) -> list[float]:
    """From these weights on, the one change of one weight that helps most, again and again."""
    weights_M, mixed_RP = list(weights_M), pools.mixed(weights_M)
    value = pool_ndcg(mixed_RP)
    for _ in range(ROUNDS):
        tried = [
            (pool_ndcg(torch.add(mixed_RP, pools.shares_MRP[nth], alpha=step)), nth, step)
            for nth in sorted(among)
            for step in STEPS
            if weights_M[nth] + step >= 0 and sum(weights_M) + step > 0
        ]
        better, nth, step = max(tried)
        if better <= value + GAIN:
            break
        value, weights_M[nth] = better, weights_M[nth] + step
        mixed_RP = pools.mixed(weights_M)
    return weights_M
