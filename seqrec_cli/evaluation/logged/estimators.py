"""What an order of candidates would have earned, from clicks that another order drew: five estimates of one value.

A list's value is the sum over its items of a place's worth (`worths`) times the item's relevance. The log tells clicks
c at places that were looked at with chance p (0: the item was not shown). q is the chance that the item is looked at
over all orders that the logging policy might have shown, which is p where there is one order. With r an outcome model's
relevance, 1/q no larger than `clip`:

- naive: c for the relevance: right if all places are looked at alike
- ips: c / q (Horvitz and Thompson 1952; for ranked lists Joachims et al., WSDM 2017, arXiv 1608.04468)
- snips: the same over the sum of c / q, so the value of an average click (Swaminathan and Joachims, NeurIPS 2015)
- direct: r
- dr: r + (c - p r) / q (Dudik et al., ICML 2011, arXiv 1103.4601; for positions Oosterhuis, TOIS 2023, arXiv
  2203.17118, without its trust in clicks): right if q is, or if r is

Nobody sees whether an item was looked at. So where the policy has one order, q = p, the outcome model cancels out of
dr, which is ips, but for places whose 1/q is above the bound: there it stands in for what the bound cuts off.

Legend: N candidates, ordered by request, R requests, K places.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from seqrec_cli.evaluation.intervals import TWO_SIDED
from seqrec_cli.evaluation.user_sums import UserSums, standard_error

ESTIMATES = ("naive", "ips", "snips", "direct", "dr")
Worth = Callable[[np.ndarray], np.ndarray]


def worths(cutoffs: tuple[int, ...]) -> dict[str, Worth]:
    """What a place is worth, by the metric's name: its reciprocal, its discount in DCG, or whether it is in a top k."""
    found: dict[str, Worth] = {"mrr": lambda places: 1 / places, "dcg": lambda places: 1 / np.log2(places + 1)}
    for k in cutoffs:
        found[f"top@{k}"] = partial(_in_top, k)
    return found


def _in_top(k: int, places: np.ndarray) -> np.ndarray:
    found: np.ndarray = (places <= k).astype(np.float64)
    return found


@dataclass(frozen=True)
class Shown:
    """Lists in the order that was shown, clicks, chances of a look, an outcome model's relevance, and the scores of
    another order."""

    users_N: np.ndarray
    requests_N: np.ndarray  # equal ones stand together, in the order that was shown
    clicks_N: np.ndarray
    looked_N: np.ndarray  # p of each item's place; 0: it was not shown
    scores_N: np.ndarray  # of the order in question, higher first
    relevance_N: np.ndarray | None = None  # None: no outcome model, so neither direct nor dr
    clip: float = np.inf  # the largest 1 / q
    exposure_N: np.ndarray | None = None  # q; None: the policy has one order, so p

    @property
    def starts_R(self) -> np.ndarray:
        """Where each request begins."""
        return np.flatnonzero(np.diff(self.requests_N, prepend=self.requests_N[:1] - 1))

    @property
    def places_N(self) -> np.ndarray:
        """Where each item stood, from 1."""
        return places_of(self.requests_N)

    def with_scores(self, scores_N: np.ndarray) -> "Shown":
        """The same log, and another order of it."""
        return replace(self, scores_N=scores_N)

    @property
    def effective_clicks(self) -> float:
        """How many clicks of like weight would vary as these do: (sum of 1/q)^2 / sum of (1/q)^2 (Kish 1965)."""
        weights_N = self._weights_N[self.clicks_N > 0]
        squares = float(np.square(weights_N).sum())
        return float(weights_N.sum()) ** 2 / squares if squares else 0.0

    @property
    def _weights_N(self) -> np.ndarray:
        return np.minimum(1 / (self.looked_N if self.exposure_N is None else self.exposure_N), self.clip)

    def relevances(self) -> dict[str, np.ndarray]:
        """What each estimate takes for the relevance of each item, float64 [N]."""
        clicks_N = (self.clicks_N > 0).astype(np.float64)
        found = {"naive": clicks_N, "ips": clicks_N * self._weights_N}
        found["snips"] = found["ips"]
        if self.relevance_N is not None:
            found["direct"] = self.relevance_N
            found["dr"] = self.relevance_N + (clicks_N - self.looked_N * self.relevance_N) * self._weights_N
        return found


class Estimate(NamedTuple):
    """A value of the order that was shown and of the order in question, and 95 % of their difference."""

    shown: float
    order: float
    low: float
    high: float


def values(shown: Shown, worth_N: np.ndarray) -> dict[str, UserSums]:
    """By each estimate, a request's mean value where items are worth that much, as sums over users, who are drawn
    together with their requests."""
    starts_U = np.flatnonzero(np.diff(shown.users_N, prepend=shown.users_N[:1] - 1))
    once_N = np.zeros(len(worth_N))
    once_N[shown.starts_R] = 1
    return {
        name: UserSums(
            np.add.reduceat(relevance_N * worth_N, starts_U)[None],
            np.add.reduceat(relevance_N if name == "snips" else once_N, starts_U)[None],
        )
        for name, relevance_N in shown.relevances().items()
    }


def estimates(shown: Shown, worth: Worth) -> dict[str, Estimate]:
    """The order that was shown beside the one in question, for a policy with one order."""
    before = values(shown, worth(shown.places_N.astype(np.float64)))
    after = values(shown, expected_worth(shown.requests_N, shown.scores_N, worth))
    found = {}
    for name, now in before.items():
        then = after[name]
        difference = then.value - now.value
        error = TWO_SIDED * standard_error(then.influences_U - now.influences_U)
        found[name] = Estimate(now.value, then.value, difference - error, difference + error)
    return found


def places_of(requests_N: np.ndarray) -> np.ndarray:
    """Each item's place in its request, from 1, int64 [N]."""
    starts_R = np.flatnonzero(np.diff(requests_N, prepend=requests_N[:1] - 1))
    counts_R = np.diff(starts_R, append=len(requests_N))
    places_N: np.ndarray = np.arange(len(requests_N)) - np.repeat(starts_R, counts_R) + 1
    return places_N


def expected_worth(requests_N: np.ndarray, scores_N: np.ndarray, worth: Worth) -> np.ndarray:
    """The worth of each item's place by score, float64 [N]; equal scores share the mean of their places' worths: a
    constant score is worth a random order, and not the one that was shown."""
    order_N = np.lexsort((-scores_N, requests_N))  # requests rise, as they are grouped
    requests, scores = requests_N[order_N], scores_N[order_N]
    worth_N = worth(places_of(requests).astype(np.float64))
    new_N = (np.diff(requests, prepend=requests[:1] - 1) != 0) | (np.diff(scores, prepend=np.nan) != 0)
    tie_N = np.cumsum(new_N) - 1
    means_T = np.bincount(tie_N, worth_N) / np.bincount(tie_N)
    found_N = np.empty(len(scores_N))
    found_N[order_N] = means_T[tie_N]
    return found_N


def as_plain(found: Mapping[str, Mapping[str, Estimate]]) -> dict[str, dict[str, dict[str, float]]]:
    """For JSON."""
    return {metric: {name: each._asdict() for name, each in by.items()} for metric, by in found.items()}
