"""The items that a request's targets are ranked among where not the whole corpus is: drawn by a seed and the request
itself, so that they are the same for every model, in any order and any subset of the requests.

Uniform, or by training events; never a target; under `seen=remove` never an item of the history; no item twice. Drawn
one after another and a repeated one drawn again, popular items come as in sampling without replacement.

Legend: R requests, B requests of a block, T targets, K items drawn a request, M drawn at once, V items.
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.negatives import SeenItems
from seqrec_cli.data.splits import training_counts, view_of
from seqrec_cli.data.view import Targets
from seqrec_cli.evaluation.mixing import STEP, mixed

ROUNDS = 8  # of drawing again, before the few requests that still lack items draw from their exact complement


@dataclass(frozen=True)
class Sampling:
    """How many items, and drawn how."""

    kind: Literal["uniform", "popularity"]
    count: int

    @classmethod
    def of(cls, candidates: str) -> Self | None:
        """What a protocol's `candidates` say, as `uniform:100`; None for the whole corpus."""
        if candidates == "full":
            return None
        kind, _, count = candidates.partition(":")
        return cls("uniform" if kind == "uniform" else "popularity", int(count))


class Drawing:
    """Draws a log's sampled candidates."""

    def __init__(self, log: PackedLog, sampling: Sampling, seed: int) -> None:
        self._log, self._count, self._seed = log, min(sampling.count, log.num_items), seed
        self._removes_seen = view_of(log).seen == "remove"
        weights_V = np.ones(log.num_items + 1, np.int64)
        if sampling.kind == "popularity":
            weights_V = training_counts(log)
        weights_V[0] = 0
        self._weights_V, self._sums_V = weights_V, np.cumsum(weights_V)

    def of(self, targets: Targets) -> tuple[np.ndarray, np.ndarray]:
        """Items of each request [R, K], on the right 0 where the catalogue has no more; and how many items the whole
        corpus would have for it [R], targets included."""
        excluded, seen_R = self._excluded(targets)
        keys_R = mixed(np.asarray(targets.ends_R, np.uint64) + mixed(np.array([self._seed], np.uint64)))
        items_RK = np.zeros((len(keys_R), self._count), np.int64)
        lacking, M = np.arange(len(keys_R)), 2 * self._count
        for nth in range(ROUNDS):
            first = nth * M
            numbers_BM = _uniform(keys_R[lacking, None], np.arange(first, first + M)) * self._sums_V[-1]
            drawn_BM = np.searchsorted(self._sums_V, numbers_BM.astype(np.int64), side="right")
            items_RK[lacking] = _first_valid(np.concatenate([items_RK[lacking], drawn_BM], axis=1), lacking, excluded)[
                :, : self._count
            ]
            lacking = lacking[items_RK[lacking, -1] == 0]
            if not len(lacking):
                break
        for request in lacking:
            items_RK[request] = self._from_complement(
                int(request), items_RK[request], keys_R[[request]], excluded=excluded
            )
        return items_RK, self._log.num_items - seen_R

    def _excluded(self, targets: Targets) -> tuple[SeenItems, np.ndarray]:
        """What each request never draws, by its number; and how many items other than its targets it has seen where
        these are removed [R]."""
        width = np.int64(self._log.num_items + 1)
        wanted_T = targets.requests_T * width + self._log.items_N[targets.positions_T]
        seen_N = np.zeros(0, np.int64)
        if self._removes_seen:
            starts_R = np.asarray(self._log.offsets_U1)[targets.rows_R]
            lengths_R = targets.ends_R - starts_R
            events_N = self._log.items_N[ragged_ranges(starts_R, lengths_R)]
            seen_N = np.unique(np.repeat(np.arange(len(starts_R)), lengths_R) * width + events_N)
            seen_N = seen_N[~np.isin(seen_N, wanted_T)]
        counts_R = np.bincount(seen_N // width, minlength=len(targets.rows_R))
        return SeenItems(np.union1d(seen_N, wanted_T), self._log.num_items), counts_R

    def _from_complement(
        self, request: int, items_K: np.ndarray, key: np.ndarray, *, excluded: SeenItems
    ) -> np.ndarray:
        """The items that a request has, and the lacking ones from all that are left (Efraimidis and Spirakis 2006)."""
        kept = items_K[items_K > 0]
        left = np.setdiff1d(excluded.unseen(request), kept)
        left = left[self._weights_V[left] > 0]
        numbers = _uniform(key, ROUNDS * 2 * self._count + left)
        order = np.argsort(np.log(np.maximum(numbers, np.finfo(float).tiny)) / self._weights_V[left], kind="stable")[
            ::-1
        ]
        found = np.concatenate([kept, left[order]])[: len(items_K)]
        return np.pad(found, (0, len(items_K) - len(found)))


def _first_valid(items_BM: np.ndarray, requests_B: np.ndarray, excluded: SeenItems) -> np.ndarray:
    """Each row's items in order, those excluded or drawn before in the row replaced by zeros at the end."""
    order_BM = np.argsort(items_BM, axis=1, kind="stable")
    sorted_BM = np.take_along_axis(items_BM, order_BM, axis=1)
    again_BM = np.zeros(items_BM.shape, bool)
    np.put_along_axis(again_BM, order_BM[:, 1:], sorted_BM[:, 1:] == sorted_BM[:, :-1], axis=1)
    wrong_BM = again_BM | (items_BM == 0)
    wrong_BM |= excluded.contains(np.broadcast_to(requests_B[:, None], items_BM.shape), items_BM)
    first_BM = np.argsort(wrong_BM, axis=1, kind="stable")
    return np.take_along_axis(np.where(wrong_BM, 0, items_BM), first_BM, axis=1)


def _uniform(keys: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1), a stream a key."""
    with np.errstate(over="ignore"):
        numbers = mixed(keys + np.asarray(counters, np.uint64) * STEP)
    return (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53
