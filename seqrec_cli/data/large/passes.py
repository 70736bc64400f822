"""Which rows stay, counted as `filters.py` counts them, over ordered rows on disk: a block of whole users at a time.

Repeats and the order are of one user alone, so a block has all that decides them. The k-core needs the counts of all
users and items, which are two arrays in memory. Whichever engine ordered the rows, what comes after is this.

Legend: N ordered rows, B rows of a block, U users, V items (codes from 0 of all that the raw log has).
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.blocks import user_blocks
from seqrec_cli.data.filters import Steps, repeats, repeats_refused, without_ratings
from seqrec_cli.data.large.definition import part_and_row

Advance = Callable[[int], None]


@dataclass
class Ordered:
    """Ordered rows on disk: memory-mapped columns by name, among them `user` and `item` codes and `place`."""

    columns: dict[str, np.ndarray]
    counts_U: np.ndarray  # rows of each user
    items: int
    rows: int = field(init=False)
    offsets_U1: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.rows = len(self.columns["place"])
        self.offsets_U1 = np.concatenate([[0], np.cumsum(self.counts_U, dtype=np.int64)])

    def blocks(self, rows: int) -> Iterator[slice]:
        """Slices of whole users' rows, each of about so many rows (one user's, if these are more)."""
        return (found for _, found in user_blocks(self.offsets_U1, rows) if found.start < found.stop)


class Filters:
    """The filters of a dataset, one after another; `kept_N` (uint8, on disk) marks the rows that stay."""

    def __init__(self, log: Ordered, marks: Path, *, block: int, advance: Advance) -> None:
        self.log, self.block, self.advance = log, block, advance
        self.kept_N = _zeros_on_disk(marks, log.rows)
        self.kept_N[:] = 1
        self.steps = Steps("raw", events=log.rows, users=len(log.counts_U), items=log.items)
        self.users_U = log.counts_U.astype(np.int64)
        self.items_V = self._item_counts()

    def run(self, cfg: DatasetConfig, where: Callable[[int, int], str]) -> list[dict[str, Any]]:
        """Mark the rows that stay; a row of counts of the raw log and of each filter. `where` tells in words where the
        row of a part is."""
        if cfg.duplicates != "keep":
            self._repeats(cfg, where)
        self._count(f"duplicates={cfg.duplicates}")
        if cfg.min_rating is not None:
            if "rating" not in self.log.columns:
                raise SeqrecError(without_ratings(cfg.min_rating))
            least = cfg.min_rating
            self._mark(lambda rows: self.log.columns["rating"][rows] >= least)
            self._count(f"min_rating={cfg.min_rating}")
        if cfg.user_core or cfg.item_core:
            self._core(cfg.user_core, cfg.item_core)
            self._count(f"user_core={cfg.user_core} item_core={cfg.item_core}")
        return self.steps.rows

    def _repeats(self, cfg: DatasetConfig, where: Callable[[int, int], str]) -> None:
        columns, count, first = self.log.columns, 0, None
        for rows in self.log.blocks(self.block):
            place_B = np.asarray(columns["place"][rows])
            order_B = np.argsort(place_B)  # as they were read: the first of equal rows stays
            users_B = np.asarray(columns["user"][rows], np.int64)[order_B]
            times_B = None if "time" not in columns else np.asarray(columns["time"][rows])[order_B]
            items_B = np.asarray(columns["item"][rows], np.int64)[order_B]
            found_B = repeats(users_B - users_B.min(), items_B, times_B)
            if found_B.any():
                count += int(found_B.sum())
                place = int(place_B[order_B[found_B]].min())
                first = place if first is None else min(first, place)
                if cfg.duplicates == "drop":
                    kept_B = self.kept_N[rows]
                    kept_B[order_B[found_B]] = 0
            self.advance(len(place_B))
        if cfg.duplicates == "error" and first is not None:
            raise SeqrecError(repeats_refused(count, where(*part_and_row(first)), timed="time" in columns))

    def _mark(self, stays: Callable[[slice], np.ndarray]) -> None:
        for rows in self.log.blocks(self.block):
            self.kept_N[rows] &= stays(rows).view(np.uint8)
            self.advance(rows.stop - rows.start)

    def _count(self, name: str) -> None:
        self._recount()
        users, items = int((self.users_U > 0).sum()), int((self.items_V > 0).sum())
        self.steps.add(name, events=int(self.users_U.sum()), users=users, items=items)

    def _recount(self) -> None:
        self.users_U = np.zeros(len(self.log.counts_U), np.int64)
        for rows in self.log.blocks(self.block):
            users_B = np.asarray(self.log.columns["user"][rows])
            first = int(users_B[0])
            counts = np.bincount(users_B[self.kept_N[rows] > 0] - first)
            self.users_U[first : first + len(counts)] += counts
        self.items_V = self._item_counts()

    def _item_counts(self) -> np.ndarray:
        counts_V = np.zeros(self.log.items, np.int64)
        for rows in self.log.blocks(self.block):
            items_B = np.asarray(self.log.columns["item"][rows])[self.kept_N[rows] > 0]
            counts_V += np.bincount(items_B, minlength=self.log.items)
        return counts_V

    def _core(self, user_core: int, item_core: int) -> None:
        """Users and items below their least count fall until none does, as `filters.core`; a round reads the rows
        once, and counts what it takes away instead of all that is left."""
        while True:
            few_U, few_V = self._few(self.users_U, user_core), self._few(self.items_V, item_core)
            if not few_U.any() and not few_V.any():
                return
            for rows in self.log.blocks(self.block):
                users_B = np.asarray(self.log.columns["user"][rows])
                items_B = np.asarray(self.log.columns["item"][rows])
                gone_B = (few_U[users_B] | few_V[items_B]) & (self.kept_N[rows] > 0)
                if gone_B.any():
                    kept_B = self.kept_N[rows]
                    kept_B[gone_B] = 0
                    np.subtract.at(self.users_U, users_B[gone_B], 1)
                    np.subtract.at(self.items_V, items_B[gone_B], 1)
                self.advance(rows.stop - rows.start)

    def _few(self, counts: np.ndarray, least: int) -> np.ndarray:
        few: np.ndarray = (counts > 0) & (counts < least)
        return few


def _zeros_on_disk(path: Path, count: int) -> np.ndarray:
    """uint8 [count] in a file whose bytes the disk has promised, so that writing by the map cannot fail."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, count)
        else:
            file.truncate(count)
    return np.memmap(path, np.uint8, mode="r+", shape=(count,))
