"""What a metric is: of ranks, of labelled clicks, or of the lists that would be shown.

Legend: R requests, T targets (one or several a request), N labelled candidates.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np

Form = Literal["@k", "all"]  # with a cutoff (hr@10), or over all ranks (mrr)
Need = Literal["several targets", "click candidates", "top lists", "item attribute", "item owners"]

NEEDS: dict[Need, str] = {
    "several targets": "requests with several targets (with one, it repeats another metric)",
    "click candidates": "labelled candidates",
    "top lists": "evaluation.beyond_accuracy=true",
    "item attribute": "an attribute of the items, named after the colon",
    "item owners": "owners of the items: dataset.owner_column",
}


class MetricError(ValueError):
    """A metric that does not exist: an unknown name, or labels and scores that do not define it."""


class RankedTargets(Protocol):
    """What an evaluation knows of its requests: request r has the targets offsets_R1[r]:offsets_R1[r + 1].

    `ranks_T` float64 from 1, each target's among all `candidates_R` of its request (the request's other targets
    included), halves where scores tie.
    """

    @property
    def ranks_T(self) -> np.ndarray: ...
    @property
    def offsets_R1(self) -> np.ndarray: ...
    @property
    def candidates_R(self) -> np.ndarray: ...


@dataclass(frozen=True)
class TargetRanks:
    """Ranks as metrics read them.

    Ties: a rank is the mean of the positions that equal scores share, and counts at k if it is at most k, so that a tie
    across the cutoff is no hit. Two targets of one request cannot hold one position: those that tie with each other
    stand at consecutive positions around their mean (two that share the first two positions: 1 and 2, not 1.5 twice).
    A request's values then never exceed those of the best order, and with one target a request nothing changes.
    """

    ranks_T: np.ndarray
    offsets_R1: np.ndarray
    candidates_R: np.ndarray

    @classmethod
    def of(cls, ranks: RankedTargets) -> "TargetRanks":
        """The ranks of an evaluation."""
        return cls(np.asarray(ranks.ranks_T, np.float64), np.asarray(ranks.offsets_R1), np.asarray(ranks.candidates_R))

    @classmethod
    def single(cls, ranks_R: np.ndarray, candidates_R: np.ndarray) -> "TargetRanks":
        """Requests with one target each."""
        return cls(np.asarray(ranks_R, np.float64), np.arange(len(ranks_R) + 1), np.asarray(candidates_R))

    @cached_property
    def counts_R(self) -> np.ndarray:
        """How many targets each request has."""
        return np.diff(self.offsets_R1)

    @cached_property
    def requests_T(self) -> np.ndarray:
        """The request of each target."""
        return np.repeat(np.arange(len(self.counts_R)), self.counts_R)

    @cached_property
    def positions_T(self) -> np.ndarray:
        """Each request's ranks, ascending, with targets that tie set apart."""
        if len(self.ranks_T) == len(self.counts_R):
            return self.ranks_T
        order_T = np.lexsort((self.ranks_T, self.requests_T))  # requests stay where they are
        ranks_T = self.ranks_T[order_T]
        new_T = (np.diff(ranks_T, prepend=np.nan) != 0) | (np.diff(self.requests_T, prepend=-1) != 0)
        firsts_G = np.flatnonzero(new_T)
        sizes_G = np.diff(firsts_G, append=len(ranks_T))
        within_T = np.arange(len(ranks_T)) - np.repeat(firsts_G, sizes_G)
        return ranks_T + within_T - np.repeat((sizes_G - 1) / 2, sizes_G)

    @cached_property
    def nth_T(self) -> np.ndarray:
        """Of each position, how many of its request's targets stand there or above: 1, 2, ...."""
        return np.arange(len(self.ranks_T)) - np.repeat(self.offsets_R1[:-1], self.counts_R) + 1

    @cached_property
    def first_R(self) -> np.ndarray:
        """The position of each request's best target."""
        return self.positions_T[self.offsets_R1[:-1]]

    def sum(self, values_T: np.ndarray) -> np.ndarray:
        """Each request's sum over its targets, [R]."""
        if len(values_T) == len(self.counts_R):
            return values_T
        sums_R: np.ndarray = np.add.reduceat(values_T, self.offsets_R1[:-1])
        return sums_R


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One entry of the table. `value` computes it, and its docstring defines it: a line, the formula, the source.

    `shown`: as which form it has a column in the printed tables. `needs`: without these it is not computed.
    """

    value: Callable[..., Any]
    forms: tuple[Form, ...] = ("all",)
    shown: Form | None = None
    higher_is_better: bool = True
    needs: tuple[Need, ...] = ()

    @property
    def definition(self) -> str:
        """What it is, in full: the docstring but for its examples."""
        return (inspect.getdoc(self.value) or "").partition(">>>")[0].strip()

    @property
    def says(self) -> str:
        """What it says, in a line."""
        line = self.definition.partition("\n")[0].rstrip(".")
        return line[line.find(": ") + 2 :] if ": " in line else line

    @property
    def family(self) -> str:
        """The file it stands in."""
        return self.value.__module__.rpartition(".")[2]

    @property
    def needed(self) -> list[str]:
        """What it needs, in words."""
        return [NEEDS[need] for need in self.needs]


@dataclass(frozen=True, kw_only=True)
class RankMetric(Metric):
    """A mean over requests of what the ranks of a request's targets are worth: `value(ranks, k)` gives [R].

    `at_random(candidates_P, targets_P, k)` is its expectation [P] where the targets are any subset of the candidates
    with equal chance. k is None for the form over all ranks.
    """

    value: Callable[[TargetRanks, int | None], np.ndarray]
    at_random: Callable[[np.ndarray, np.ndarray, int | None], np.ndarray]

    def expected_at_random(self, ranks: TargetRanks, k: int | None) -> float:
        """The mean over requests for a scorer that knows nothing."""
        pairs = np.stack([ranks.candidates_R, ranks.counts_R])
        (candidates_P, targets_P), weights_P = np.unique(pairs, axis=1, return_counts=True)
        return float(np.average(self.at_random(candidates_P, targets_P, k), weights=weights_P))


@dataclass(frozen=True, kw_only=True)
class ClickMetric(Metric):
    """A number of all labelled candidates: of their labels, logits and (where `needs_users`) their users, each [N]."""

    value: Callable[..., float]
    at_random: Callable[[float], float]  # of logits that are all 0, by the share of positives
    needs_users: bool = False
    needs: tuple[Need, ...] = ("click candidates",)

    def of(self, labels_N: np.ndarray, logits_N: np.ndarray, users_N: np.ndarray) -> float:
        """Its value."""
        return self.value(labels_N, logits_N, users_N) if self.needs_users else self.value(labels_N, logits_N)


@dataclass(frozen=True)
class Training:
    """What metrics of recommended items know of the training events.

    `events_V1` how many each item has, `users_V1` how many users have it, `interactions_U1` each user's own events,
    `owners_V1` the user who owns each item (0: nobody of this log). Entry 0 is padding.
    """

    events_V1: np.ndarray
    users_V1: np.ndarray
    interactions_U1: np.ndarray
    owners_V1: np.ndarray | None = None


@dataclass(frozen=True)
class Exposure:
    """How often each item stands among the first k of all lists, `counts_V1`, and whether it does, `covered_V1`.

    Of a random scorer: the expectation of both. Entry 0 is padding.
    """

    counts_V1: np.ndarray
    covered_V1: np.ndarray
    training: Training


@dataclass(frozen=True)
class ListBlock:
    """Some of the lists, the best item first: `items_BK` (0 beyond a list's end), and the histories they follow.

    `history_M` are the items of all histories, `rows_M` the list each belongs to. `values_V1W` are the items' values of
    the attribute in question, 0 where there is none.
    """

    items_BK: np.ndarray
    history_M: np.ndarray
    rows_M: np.ndarray
    values_V1W: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ExposureMetric(Metric):
    """A number of how often each item is shown: `value(exposure)`, or None where it does not exist.

    `linear`: its value of the expected counts is its expected value, so that it is known for a random scorer.
    """

    value: Callable[[Exposure], float | None]
    forms: tuple[Form, ...] = ("@k",)
    needs: tuple[Need, ...] = ("top lists",)
    linear: bool = False


@dataclass(frozen=True, kw_only=True)
class ListMetric(Metric):
    """A mean over lists of a value of each list's attribute values: `value(lists, cutoffs)` gives [B, cutoffs], NaN
    for a list that has none.
    """

    value: Callable[[ListBlock, tuple[int, ...]], np.ndarray]
    forms: tuple[Form, ...] = ("@k",)
    needs: tuple[Need, ...] = ("top lists", "item attribute")
