"""Which rows share a batch, and in what order batches come.

The order is a pure function of seed, epoch and step, so a run can be resumed in the middle of an epoch.

Legend: R rows, B rows of one batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.prefetch import prefetched

LENGTH_NOISE = 0.1  # log-normal jitter of lengths before sorting, so that batches differ between epochs

RowSizes = tuple[np.ndarray, np.ndarray]  # lengths [B] and targets [B] of a batch's rows


def noisily_sorted(lengths_R: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Row indices by ascending length, nearly."""
    return np.argsort(lengths_R * np.exp(rng.normal(0, LENGTH_NOISE, len(lengths_R))), kind="stable")


@dataclass(frozen=True)
class Batching:
    """How an epoch's rows are divided into batches."""

    size: int  # rows a batch (targets a batch, where a row holds several examples)
    seed: int
    bucket_by_length: bool | Literal["equal"]  # rows of like length together, or of the same; else as they are drawn
    tokens: int | None  # tokens a batch, padding included, instead of `size` rows
    packed: bool = False  # rows have no padding: any of them share a batch, and `tokens` are events

    def shuffled(self, lengths_R: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """All rows, in the order that `split` divides into batches."""
        shuffled_R = rng.permutation(len(lengths_R))
        if not self.bucket_by_length:
            return shuffled_R
        if (
            self.tokens is not None or self.bucket_by_length == "equal"
        ):  # sorted without noise, so that the number of batches is the same every epoch
            return shuffled_R[np.argsort(-lengths_R[shuffled_R], kind="stable")]
        return shuffled_R[noisily_sorted(lengths_R[shuffled_R], rng)]

    def split(self, order_R: np.ndarray, lengths_R: np.ndarray) -> list[np.ndarray]:
        """Consecutive rows of an order, `size` to a batch, or as many as fit in `tokens` tokens."""
        if not len(order_R):  # `np.split` would make one empty batch of nothing
            return []
        if self.bucket_by_length == "equal":
            return self._of_equal_length(order_R, lengths_R)
        if self.tokens is not None and self.packed:
            return self._of_events(order_R, lengths_R)
        if self.tokens is None:
            return np.split(order_R, range(self.size, len(order_R), self.size))
        bounds, start = [], 0
        while start < len(order_R):
            start += self._rows_of(int(lengths_R[order_R[start]]))
            bounds.append(start)
        return np.split(order_R, bounds[:-1])

    def _of_equal_length(self, order_R: np.ndarray, lengths_R: np.ndarray) -> list[np.ndarray]:
        """Of rows in order of length: batches of one length each, as few as can be and of even sizes."""
        batches: list[np.ndarray] = []
        for same_B in np.split(order_R, np.flatnonzero(np.diff(lengths_R[order_R])) + 1):
            batches += np.array_split(same_B, -(-len(same_B) // self._rows_of(int(lengths_R[same_B[0]]))))
        return batches

    def _of_events(self, order_R: np.ndarray, lengths_R: np.ndarray) -> list[np.ndarray]:
        """Batches of even numbers of events, at most `tokens`, and so many in every order: each ends with the first row
        that reaches its share, which is smaller than `tokens` by what that row may have beyond it."""
        assert self.tokens is not None
        rows, ends_R, longest = len(order_R), np.cumsum(lengths_R[order_R]), int(lengths_R.max())
        batches = min(rows, -(-int(ends_R[-1]) // max(self.tokens - longest + 1, 1)))
        nth = np.arange(1, batches)
        bounds = np.searchsorted(ends_R, ends_R[-1] * nth / batches) + 1
        # Where one row reaches two shares, the second batch has the row behind it: none is empty.
        bounds = np.maximum.accumulate(bounds - nth) + nth
        return np.split(order_R, np.minimum(bounds, rows - batches + nth))

    def most_rows(self, lengths_R: np.ndarray) -> int:
        """How many of the longest rows can share a batch."""
        return min(len(lengths_R), self._rows_of(int(lengths_R.max())))

    def _rows_of(self, longest: int) -> int:
        return self.size if self.tokens is None else max(1, self.tokens // max(longest, 1))


class BatchedRows:
    """Training rows: `steps` batches an epoch, the same number every epoch. A subclass makes a batch of its rows."""

    def __init__(self, lengths_R: np.ndarray, batching: Batching) -> None:
        self._lengths_R, self._batching = lengths_R, batching
        self.steps = len(self._order(0))

    def _order(self, epoch: int) -> list[np.ndarray]:
        rng = self._rng(epoch)
        order_R = self._batching.shuffled(self._lengths_R, rng)
        batches = [self._longest_first(picked_B) for picked_B in self._split(order_R)]
        rng.shuffle(batches)
        return batches

    def _rng(self, *of: int) -> np.random.Generator:
        return np.random.default_rng([self._batching.seed, *of])

    def _split(self, order_R: np.ndarray) -> list[np.ndarray]:
        return self._batching.split(order_R, self._lengths_R)

    def _longest_first(self, picked_B: np.ndarray) -> np.ndarray:
        """So that a part of a batch is no wider than its rows need."""
        return picked_B[np.argsort(-self._lengths_R[picked_B], kind="stable")]

    def sizes(self, epoch: int) -> list[RowSizes]:
        """The row lengths of each batch of an epoch, in order, and how many targets each row has; no batch is made."""
        return [(self._lengths_R[picked_B], self._targets(picked_B)) for picked_B in self._order(epoch)]

    def _targets(self, picked_B: np.ndarray) -> np.ndarray:
        return np.ones(len(picked_B), np.int64)

    def largest(self) -> Batch:
        """The longest rows that can share a batch: what needs the most memory."""
        size = self._batching.most_rows(self._lengths_R)
        picked_B = self._longest_first(np.argpartition(self._lengths_R, -size)[-size:])
        return self._batch(picked_B, self._rng())

    def _batch(self, picked_B: np.ndarray, rng: np.random.Generator) -> Batch:
        raise NotImplementedError

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from step `start` on, the next one prepared while this one is used."""
        order = self._order(epoch)

        def make() -> Iterator[Batch]:
            for step in range(start, len(order)):
                yield self._batch(order[step], self._rng(epoch, step))

        return prefetched(make)
