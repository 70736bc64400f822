"""Whether seqrec's metrics are those of RecTools and ranx on the same scores, to 1e-6.

    python -m scripts.parity_metrics

Either library may be absent; what is there is compared. Both need an order without ties, so that metrics are compared
on distinct scores, and once more on scores that tie, sorted as the libraries are given them (by item): what differs
then is printed, and does not count. The check fails (exit code 1) where a metric differs on distinct scores.

Legend: R requests, T targets, V items (0 is padding), K items a list.
"""

import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from seqrec_cli.metrics.kinds import Exposure, ListBlock, TargetRanks, Training
from seqrec_cli.metrics.table import METRICS

USERS, ITEMS, CUTOFFS, TOLERANCE = 400, 250, (1, 5, 10), 1e-6


class Case:
    """Scores of every item for every request, one to six targets each, training events, and an attribute."""

    def __init__(self, levels: int | None, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.scores_RV = rng.normal(size=(USERS, ITEMS + 1))
        if levels is not None:
            self.scores_RV = np.round(self.scores_RV * levels) / levels
        self.scores_RV[:, 0] = -np.inf
        self.trained_UV = rng.random((USERS, ITEMS + 1)) < rng.random(ITEMS + 1) * 0.2
        self.trained_UV[:, 0] = False
        self.scores_RV[self.trained_UV] = -np.inf  # seen items are no candidates
        self.color_V1 = np.concatenate([[0], rng.integers(1, 5, ITEMS)])
        counts_R = rng.integers(1, 7, USERS)
        self.offsets_R1 = np.concatenate([[0], np.cumsum(counts_R)])
        unseen = [np.flatnonzero(np.isfinite(scores_V)) for scores_V in self.scores_RV]
        self.targets_T = np.concatenate([rng.permutation(items)[:n] for items, n in zip(unseen, counts_R, strict=True)])
        self.requests_T = np.repeat(np.arange(USERS), counts_R)
        self.scores_RV[self.requests_T, self.targets_T] += 1.5  # better than chance
        self.order_RV = np.argsort(-self.scores_RV, axis=1, kind="stable")[:, :ITEMS]

    def ranks(self) -> TargetRanks:
        own_T1 = self.scores_RV[self.requests_T, self.targets_T][:, None]
        all_TV = self.scores_RV[self.requests_T]
        ranks_T = 1 + (all_TV > own_T1).sum(1) + ((all_TV == own_T1).sum(1) - 1) / 2
        return TargetRanks(ranks_T, self.offsets_R1, np.isfinite(self.scores_RV).sum(1))

    def ours(self) -> dict[str, float]:
        """Every metric that a library has too."""
        found, ranks = {}, self.ranks()
        for kind in ("hr", "precision", "recall", "ndcg", "mrr", "map"):
            for k in CUTOFFS:
                found[f"{kind}@{k}"] = float(METRICS[kind].value(ranks, k).mean())
        for kind in ("mrr", "map", "r_precision"):
            found[kind] = float(METRICS[kind].value(ranks, None).mean())
        training = Training(
            self.trained_UV.sum(0), self.trained_UV.sum(0), np.concatenate([[0], self.trained_UV.sum(1)])
        )
        none_M = np.zeros(0, np.int64)
        block = ListBlock(self.order_RV[:, : max(CUTOFFS)], none_M, none_M, self.color_V1[:, None])
        for column, k in enumerate(CUTOFFS):
            counts_V1 = np.bincount(self.order_RV[:, :k].ravel(), minlength=ITEMS + 1).astype(float)
            exposure = Exposure(counts_V1, counts_V1 > 0, training)
            for kind in ("coverage", "novelty", "average_popularity"):
                found[f"{kind}@{k}"] = METRICS[kind].value(exposure)
            if k > 1:
                found[f"diversity@{k}"] = float(np.nanmean(METRICS["diversity"].value(block, CUTOFFS)[:, column]))
        return found


def of_rectools(case: Case) -> Iterator[tuple[str, float]]:
    """RecTools. Its MAP@k divides by all R targets, also where these are more than k: converted here."""
    import pandas as pd
    from rectools import metrics as rt
    from rectools.metrics.distances import PairwiseHammingDistanceCalculator

    reco = pd.DataFrame(
        {
            "user_id": np.repeat(np.arange(USERS), ITEMS),
            "item_id": case.order_RV.ravel(),
            "rank": np.tile(np.arange(1, ITEMS + 1), USERS),
        }
    )
    finite = np.isfinite(np.take_along_axis(case.scores_RV, case.order_RV, 1)).ravel()
    reco = reco[finite]
    targets = pd.DataFrame({"user_id": case.requests_T, "item_id": case.targets_T})
    users, items = np.nonzero(case.trained_UV)
    before = pd.DataFrame({"user_id": users, "item_id": items})
    features = pd.DataFrame({"color": case.color_V1[1:]}, index=pd.Index(np.arange(1, ITEMS + 1), name="item_id"))
    distances = PairwiseHammingDistanceCalculator(features)
    for k in CUTOFFS:
        yield f"hr@{k}", rt.HitRate(k).calc(reco, targets)
        yield f"precision@{k}", rt.Precision(k).calc(reco, targets)
        yield f"recall@{k}", rt.Recall(k).calc(reco, targets)
        yield f"ndcg@{k}", rt.NDCG(k, divide_by_achievable=True).calc(reco, targets)
        yield f"mrr@{k}", rt.MRR(k).calc(reco, targets)
        counts_R = np.diff(case.offsets_R1)
        divided_R = rt.MAP(k).calc_per_user(reco, targets).sort_index().to_numpy()
        yield f"map@{k}", float((divided_R * counts_R / np.minimum(counts_R, k)).mean())
        yield f"coverage@{k}", rt.CatalogCoverage(k, normalize=True).calc(reco, np.arange(1, ITEMS + 1))
        yield f"novelty@{k}", rt.MeanInvUserFreq(k).calc(reco, before)
        yield f"average_popularity@{k}", rt.AvgRecPopularity(k).calc(reco, before)
        if k > 1:
            yield f"diversity@{k}", rt.IntraListDiversity(k, distances).calc(reco[reco["rank"] <= k])
    yield "mrr", rt.MRR(ITEMS).calc(reco, targets)
    yield "map", rt.MAP(ITEMS).calc(reco, targets)


def of_ranx(case: Case) -> Iterator[tuple[str, float]]:
    """ranx. Its MAP@k divides by all targets too, and is left out."""
    from ranx import Qrels, Run, evaluate

    qrels: dict[str, dict[str, int]] = {}
    for request, item in zip(case.requests_T.tolist(), case.targets_T.tolist(), strict=True):
        qrels.setdefault(f"q{request}", {})[f"d{item}"] = 1
    run = {
        f"q{request}": {
            f"d{item}": float(ITEMS - position)
            for position, item in enumerate(case.order_RV[request].tolist())
            if np.isfinite(case.scores_RV[request, item])
        }
        for request in range(USERS)
    }
    theirs = {"hit_rate": "hr", "precision": "precision", "recall": "recall", "ndcg": "ndcg", "mrr": "mrr"}
    wanted = [f"{name}@{k}" for name in theirs for k in CUTOFFS] + ["mrr", "map", "r-precision"]
    found: dict[str, Any] = evaluate(Qrels(qrels), Run(run), wanted)
    for name, value in found.items():
        head, at, k = name.partition("@")
        yield f"{theirs.get(head, head.replace('-', '_'))}{at}{k}", float(value)


LIBRARIES = {"rectools": of_rectools, "ranx": of_ranx}


def main() -> int:
    there = {name: of for name, of in LIBRARIES.items() if importlib.util.find_spec(name)}
    if not there:
        print("neither RecTools nor ranx is installed here: nothing compared")
        return 0
    failed = False
    for levels, what in ((None, "distinct scores"), (4, "scores that tie")):
        case = Case(levels)
        ours = case.ours()
        for library, of in there.items():
            gaps = {name: (ours[name], value) for name, value in of(case)}
            differ = {name: pair for name, pair in gaps.items() if abs(pair[0] - pair[1]) > TOLERANCE}
            largest = max(abs(a - b) for a, b in gaps.values())
            print(f"{library}, {what}: {len(gaps)} metrics, {len(differ)} differ; largest difference {largest:.1e}")
            for name, (a, b) in differ.items():
                print(f"  {name}: {a:.6f}, {library} {b:.6f}")
            failed |= levels is None and bool(differ)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
