"""Counts of what follows what, and how likely they make the held-out targets.

Legend: N training events, E distinct pairs, R requests, M the latest history events of a request, V items, K models.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from seqrec_cli.data.view import Targets
from seqrec_cli.evaluation.audit.subject import Subject, training_positions

WINDOW = 10  # events that an event is counted to be followed by, in the bag of the history
LATEST = 50  # history events that are looked at
ROUNDS = 50  # of expectation maximisation: the weights of a handful of models settle well before
PARTS = 2  # weights are fitted on the requests of one part and judged on the other's


@dataclass(frozen=True)
class Pairs:
    """How often the second of two keys followed the first: `keys_E` is first * base + second, ascending."""

    keys_E: np.ndarray
    counts_E: np.ndarray
    totals: np.ndarray  # by first key
    base: int

    @classmethod
    def of(cls, firsts: np.ndarray, seconds: np.ndarray, *, firsts_in_all: int, base: int) -> Self:
        keys_E, counts_E = np.unique(firsts * base + seconds, return_counts=True)
        return cls(keys_E, counts_E, np.bincount(firsts, minlength=firsts_in_all), base)

    def index(self, firsts: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """Where these pairs stand in `keys_E`; -1 for a pair that never was."""
        wanted = firsts * self.base + seconds
        if not len(self.keys_E):
            return np.full(wanted.shape, -1)
        found = np.minimum(np.searchsorted(self.keys_E, wanted), len(self.keys_E) - 1)
        return np.where(self.keys_E[found] == wanted, found, -1)

    def chance(self, firsts: np.ndarray, seconds: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
        """The share of a first key's followers that is the second key; `otherwise` where nothing followed it."""
        index = self.index(firsts, seconds)
        counts = np.where(index >= 0, np.append(self.counts_E, 0)[index], 0)
        totals = self.totals[firsts]
        return np.where(totals > 0, counts / np.maximum(totals, 1), otherwise)


@dataclass(frozen=True)
class Likelihoods:
    """Mean log likelihood of a held-out target, in nats, of mixtures that look back ever further."""

    popular: float
    last: float
    last_two: float
    history: float


@dataclass(frozen=True)
class Transitions:
    """Pairs of neighbours in training, and the items and user rows of all training events, in order."""

    pairs: Pairs
    items_N: np.ndarray
    rows_N: np.ndarray


def transitions(subject: Subject) -> Transitions:
    """What training has."""
    parts = [training_positions(subject, block) for block in subject.blocks()]
    positions_N = np.concatenate([np.zeros(0, np.int64), *parts])
    items_N = np.asarray(subject.log.items_N[positions_N], np.int64)
    starts_U = np.asarray(subject.log.offsets_U1)[:-1]
    rows_N = np.repeat(np.arange(len(starts_U)), subject.train_U - starts_U)
    same = rows_N[1:] == rows_N[:-1]
    columns = subject.log.num_items + 1
    pairs = Pairs.of(items_N[:-1][same], items_N[1:][same], firsts_in_all=columns, base=columns)
    return Transitions(pairs, items_N, rows_N)


def likelihoods(subject: Subject, trained: Transitions, *, requests: int, seed: int) -> Likelihoods:
    """Of at most so many requests, each asked for its first target.

    The chances of popularity (add one), of the last item, of the last two, and of the latest 50 events' followers
    within ten, mixed with weights that are fitted by expectation maximisation on one half of the requests and judged
    on the other (deleted interpolation: Jelinek & Mercer 1980). Where a context never was in training its chance is
    that of the shorter one.
    """
    targets = _some(subject.targets, requests, seed)
    log, columns = subject.log, subject.log.num_items + 1
    pairs, items_N, rows_N = trained.pairs, trained.items_N, trained.rows_N
    ends_R, starts_R = targets.ends_R, np.asarray(log.offsets_U1)[targets.rows_R]
    asked_R = np.asarray(log.items_N[targets.positions_T[targets.offsets_R1[:-1]]], np.int64)

    def back(events: int) -> np.ndarray:
        """The item so many events before the end; 0 where the history is shorter."""
        items_R = np.asarray(log.items_N[np.maximum(ends_R - events, 0)], np.int64)
        return np.where(ends_R - events >= starts_R, items_R, 0)

    counts_V = np.bincount(items_N, minlength=columns)
    popular_R = (counts_V[asked_R] + 1) / (len(items_N) + log.num_items)
    last_R = pairs.chance(back(1), asked_R, popular_R)
    same_two = np.flatnonzero(rows_N[2:] == rows_N[:-2]) if len(rows_N) > 2 else np.zeros(0, np.int64)
    firsts = pairs.index(items_N[same_two], items_N[same_two + 1])
    triples = Pairs.of(firsts, items_N[same_two + 2], firsts_in_all=len(pairs.keys_E) + 1, base=columns)
    context_R = pairs.index(back(2), back(1))  # -1, the last of the totals: never was, so nothing followed
    two_R = triples.chance(np.where(context_R < 0, len(pairs.keys_E), context_R), asked_R, last_R)
    within = _within_window(items_N, rows_N, columns)
    bag_R = np.zeros(len(asked_R))
    events_R = np.minimum(ends_R - starts_R, LATEST)
    for nth in range(1, int(events_R.max(initial=0)) + 1):
        here_R = np.flatnonzero(events_R >= nth)
        item_X = np.asarray(log.items_N[ends_R[here_R] - nth], np.int64)
        bag_R[here_R] += within.chance(item_X, asked_R[here_R], popular_R[here_R])
    bag_R = np.where(events_R > 0, bag_R / np.maximum(events_R, 1), popular_R)
    chances_RK = np.stack([popular_R, last_R, two_R, bag_R], axis=1)
    half_R = np.random.default_rng([seed, 1]).permutation(len(asked_R)) % PARTS
    means = [_mixed(chances_RK[:, :models], half_R) for models in range(1, chances_RK.shape[1] + 1)]
    return Likelihoods(*means)


def _some(targets: Targets, requests: int, seed: int) -> Targets:
    if len(targets.rows_R) <= requests:
        return targets
    return targets.at(np.sort(np.random.default_rng([seed, 0]).permutation(len(targets.rows_R))[:requests]))


def _within_window(items_N: np.ndarray, rows_N: np.ndarray, columns: int) -> Pairs:
    """Every event with each of the ten events after it."""
    firsts, seconds = [], []
    for lag in range(1, WINDOW + 1):
        same = rows_N[lag:] == rows_N[:-lag]
        firsts.append(items_N[:-lag][same])
        seconds.append(items_N[lag:][same])
    return Pairs.of(np.concatenate(firsts), np.concatenate(seconds), firsts_in_all=columns, base=columns)


def _mixed(chances_RK: np.ndarray, half_R: np.ndarray) -> float:
    """Mean log likelihood of the mixture, each half's with the weights of the other."""
    total = 0.0
    for part in range(PARTS):
        judged_RK, fitted_RK = chances_RK[half_R == part], chances_RK[half_R != part]
        weights_K = np.full(chances_RK.shape[1], 1 / chances_RK.shape[1])
        for _ in range(ROUNDS if len(fitted_RK) else 0):
            shares_RK = fitted_RK * weights_K
            weights_K = (shares_RK / shares_RK.sum(axis=1, keepdims=True)).mean(axis=0)
        weights_K = 0.999 * weights_K + 0.001 / len(weights_K)  # a weight of 0 could make a target impossible
        total += float(np.log(judged_RK @ weights_K).sum())
    return total / max(len(chances_RK), 1)
