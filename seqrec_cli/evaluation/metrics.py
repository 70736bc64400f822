"""Metrics in plain numpy: of ranks (next item) and of labelled scores (clicks).

Legend: R users with a rank, N labelled candidates, G users with labelled candidates.
"""

import numpy as np

from seqrec_cli.config.errors import SeqrecError


def gains(ranks_R: np.ndarray, kind: str) -> np.ndarray:
    """What a hit at a rank is worth: `hr` 1, `ndcg` 1 / log2(rank + 1) (one relevant item), `mrr` 1 / rank."""
    if kind == "hr":
        return np.ones_like(ranks_R)
    return 1 / np.log2(ranks_R + 1) if kind == "ndcg" else 1 / ranks_R


def corpus_auc(ranks_R: np.ndarray, candidates_R: np.ndarray) -> np.ndarray:
    """The share of the other candidates that stand below the target, 1 - (rank - 1) / (n - 1), for each user.

    Where the target is the only candidate there is nothing to tell apart: .5, as for a constant scorer.
    """
    others_R = candidates_R - 1
    return np.where(others_R > 0, 1 - (ranks_R - 1) / np.maximum(others_R, 1), 0.5)


def ranking_metrics(ranks_R: np.ndarray, candidates_R: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, float]:
    """HR@k, NDCG@k, MRR@k, MRR and corpus AUC, each the mean over users. A rank counts at k if rank <= k."""
    found = {
        f"{kind}@{k}": float(np.where(ranks_R <= k, gains(ranks_R, kind), 0.0).mean())
        for kind in ("hr", "ndcg", "mrr")
        for k in cutoffs
    }
    return found | {
        "mrr": float(gains(ranks_R, "mrr").mean()),
        "corpus_auc": float(corpus_auc(ranks_R, candidates_R).mean()),
    }


def _checked(labels_N: np.ndarray, scores_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels_N, scores_N = np.asarray(labels_N), np.asarray(scores_N, np.float64)
    if not np.isfinite(scores_N).all():
        raise SeqrecError("the model gives click scores that are NaN or infinite; lower trainer.lr or use fp32")
    if not np.isin(labels_N, (0, 1)).all():
        raise SeqrecError("click labels must be 0 or 1; run preprocess again")
    positives_N = labels_N > 0.5
    if positives_N.all() or not positives_N.any():
        only = "positive" if len(positives_N) and positives_N[0] else "negative"
        raise SeqrecError(f"all click labels are {only}, so no click metric exists; the split needs both classes")
    return positives_N, scores_N


def _group_aucs(positives_N: np.ndarray, scores_N: np.ndarray, groups_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each group's exact AUC (NaN with one class) and size, by the rank-sum identity with ties at their mean rank."""
    order_N = np.lexsort((scores_N, groups_N))
    positives_N, scores_N, groups_N = positives_N[order_N], scores_N[order_N], groups_N[order_N]
    new_group_N = np.diff(groups_N, prepend=groups_N[0] - 1) != 0
    new_tie_N = new_group_N | (np.diff(scores_N, prepend=np.nan) != 0)
    firsts_T = np.flatnonzero(new_tie_N)
    sizes_T = np.diff(firsts_T, append=len(scores_N))
    starts_G = np.flatnonzero(new_group_N)
    group_of_N = np.cumsum(new_group_N) - 1
    # Mean rank within the group, from 1: the tie's first place + (size - 1) / 2.
    mean_rank_T = firsts_T - starts_G[group_of_N[firsts_T]] + (sizes_T + 1) / 2
    ranks_N = np.repeat(mean_rank_T, sizes_T)
    sizes_G = np.diff(starts_G, append=len(scores_N))
    positives_G = np.add.reduceat(positives_N.astype(np.int64), starts_G)
    sums_G = np.add.reduceat(np.where(positives_N, ranks_N, 0.0), starts_G)
    pairs_G = positives_G * (sizes_G - positives_G)
    wins_G = sums_G - positives_G * (positives_G + 1) / 2
    return np.where(pairs_G > 0, wins_G / np.maximum(pairs_G, 1), np.nan), sizes_G


def auc(labels_N: np.ndarray, scores_N: np.ndarray) -> float:
    """P(a positive scores higher than a negative) + P(equal) / 2 over all pairs, exactly.

    Raises SeqrecError if there is one class only, or a score is not finite.
    """
    positives_N, scores_N = _checked(labels_N, scores_N)
    return float(_group_aucs(positives_N, scores_N, np.zeros(len(scores_N), np.int64))[0][0])


def gauc(labels_N: np.ndarray, scores_N: np.ndarray, users_N: np.ndarray) -> tuple[float, int]:
    """(GAUC, users left out): each user's own AUC, weighted by the user's number of candidates (DIN, eq. 7).

    Users with one class have no AUC; they are left out and counted. Raises SeqrecError if that leaves nobody.
    """
    positives_N, scores_N = _checked(labels_N, scores_N)
    aucs_G, sizes_G = _group_aucs(positives_N, scores_N, np.asarray(users_N))
    has_both_G = ~np.isnan(aucs_G)
    if not has_both_G.any():
        raise SeqrecError("no user has both a positive and a negative candidate, so GAUC does not exist")
    weighted = float(np.average(aucs_G[has_both_G], weights=sizes_G[has_both_G]))
    return weighted, int((~has_both_G).sum())


def logloss(labels_N: np.ndarray, logits_N: np.ndarray) -> float:
    """Mean binary cross-entropy in nats, from logits: log(1 + exp(-z)) of positives, log(1 + exp(z)) of negatives.

    Raises SeqrecError if there is one class only, or a logit is not finite.
    """
    positives_N, logits_N = _checked(labels_N, logits_N)
    return float(np.logaddexp(0, np.where(positives_N, -logits_N, logits_N)).mean())
