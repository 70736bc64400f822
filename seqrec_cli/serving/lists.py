"""Lists for many histories at once: the best items that pass the filters, re-ranked where diversity is asked for.

Legend: R histories, N items of a pool, K items of a list, V items.
"""

from dataclasses import dataclass

import numpy as np

from seqrec_cli.data.histories import Histories
from seqrec_cli.serving.cold_start import AnsweredBy
from seqrec_cli.serving.diversity import Likeness, most_relevant_and_new
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import Recommended, Request


@dataclass(frozen=True)
class Mmr:
    """Maximal marginal relevance over a pool of the best items (`serving.diversity`)."""

    weight: float  # lambda
    pool: int  # items, at least as many as a list has
    like: Likeness


@dataclass(frozen=True)
class Wanted:
    """What every list is to be."""

    top: int
    repeats: bool | None = None  # as in `Request`
    hidden_V1: np.ndarray | None = None  # bool [V + 1], True: never recommended
    mmr: Mmr | None = None

    @property
    def pool(self) -> int:
        """How many of the best items the list is made from."""
        return self.top if self.mmr is None else max(self.mmr.pool, self.top)


@dataclass(frozen=True)
class Lists:
    """The items of each history's list, the first first, int64 [R, K], 0 where it has no more; float32 scores."""

    items_RK: np.ndarray
    scores_RK: np.ndarray


def lists_for(recommending: Recommending, asked: Histories, wanted: Wanted, *, rows_at_once: int) -> Lists:
    """What the model recommends after each of these histories."""
    rows_M, items_M, scores_M = recommending.best(
        asked, wanted.pool, repeats=wanted.repeats, rows_at_once=rows_at_once, hidden_V1=wanted.hidden_V1
    )
    places_M = np.arange(len(rows_M)) - np.searchsorted(rows_M, np.arange(len(asked)))[rows_M]
    items_RN = np.zeros((len(asked), wanted.pool), np.int64)
    scores_RN = np.zeros((len(asked), wanted.pool), np.float32)
    items_RN[rows_M, places_M], scores_RN[rows_M, places_M] = items_M, scores_M
    return _ordered(Lists(items_RN, scores_RN), wanted)


def cold_list(recommending: Recommending, request: Request, wanted: Wanted) -> tuple[AnsweredBy, Lists]:
    """The one list (R = 1) of a request that leaves the model nothing to read, and what it goes by."""
    by, scores_V = recommending.cold(request)
    items_N, scores_N = recommending.best_of(scores_V, wanted.pool, wanted.hidden_V1)
    missing = (0, wanted.pool - len(items_N))
    return by, _ordered(Lists(np.pad(items_N, missing)[None], np.pad(scores_N, missing)[None]), wanted)


def answer_with(recommending: Recommending, request: Request, wanted: Wanted) -> Recommended:
    """One request's answer. Raises SeqrecError as `Recommending.answer` does."""
    asked, unknown = recommending.known(request)
    by: AnsweredBy = "model"
    if asked is None:
        by, lists = cold_list(recommending, request, wanted)
    else:
        lists = lists_for(recommending, asked, wanted, rows_at_once=1)
    real_K = lists.items_RK[0] > 0
    return recommending.told(
        request, asked, unknown, items_K=lists.items_RK[0][real_K], scores_K=lists.scores_RK[0][real_K], by=by
    )


def _ordered(pools: Lists, wanted: Wanted) -> Lists:
    if wanted.mmr is None:
        return pools
    order_RK = most_relevant_and_new(
        pools.items_RK, pools.scores_RK, wanted.top, weight=wanted.mmr.weight, like=wanted.mmr.like
    )
    return Lists(*(np.take_along_axis(each, order_RK, axis=1) for each in (pools.items_RK, pools.scores_RK)))
