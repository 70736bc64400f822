"""What a teacher says of every training event given its history: the items it ranks first, in files beside the log.

A row of the files is an event of the log, at its place there, so that rows of any kind find their own: windows that
end or overlap anywhere, prefixes. Held-out events, and those with nothing before them, were never asked about and stay
empty.

Legend: N events of the log, M events asked for, B rows of a batch, L events of a row, K items kept an event.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.faults import nearest_folder
from seqrec_cli.files import write_atomically
from seqrec_cli.machine import GIB

ITEMS, LOGS, PROGRESS, MANIFEST = "items.npy", "log_shares.npy", "progress.json", "manifest.json"
BYTES = 6  # of an item that is kept: its index, int32, and the log of its share, float16


@dataclass(frozen=True)
class SoftTargets:
    """The teacher's first items of every event, and their shares of its distribution."""

    items_NK: np.ndarray  # int32, the likeliest first; 0 where the teacher was not asked
    logs_NK: np.ndarray  # float16: log of the share of each
    by: Literal["scores", "ranks"]
    rank_decay: float

    def at(self, positions_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Items int64 [M, K] of the events at these places of the log, and what shares are to be learned, float32.

        Of ranks, exp(-r / rank_decay) at rank r as shares of one: the position importance of Ranking Distillation
        (Tang & Wang 2018, arXiv 1809.07428), there the weights of K sigmoids, here a distribution for one softmax.
        """
        items_MK = np.asarray(self.items_NK[positions_M], np.int64)
        if (items_MK == 0).any():
            raise RuntimeError("soft targets were asked of an event that no teacher was asked about")
        shares_MK = np.exp(np.asarray(self.logs_NK[positions_M], np.float32))
        if self.by == "ranks":
            ranks_K = np.arange(1, items_MK.shape[1] + 1, dtype=np.float32)
            shares_MK = np.exp(-ranks_K / self.rank_decay) * (shares_MK > 0)
            shares_MK /= shares_MK.sum(1, keepdims=True)
        return items_MK, shares_MK

    def of_rows(self, starts_B: np.ndarray, lengths_B: np.ndarray, *, last: bool) -> tuple[Tensor, Tensor]:
        """Those of events start to start + length - 1, [B, L, K], 0 past each row's end; or of each row's last event
        alone, L 1."""
        if last:
            items_BK, shares_BK = self.at(starts_B + lengths_B - 1)
            return torch.from_numpy(items_BK)[:, None], torch.from_numpy(shares_BK)[:, None]
        shape = (len(lengths_B), int(lengths_B.max(initial=1)), self.items_NK.shape[1])
        items_BLK, shares_BLK = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        rows_M, columns_M = np.repeat(np.arange(len(lengths_B)), lengths_B), ragged_ranges(0, lengths_B)
        items_BLK[rows_M, columns_M], shares_BLK[rows_M, columns_M] = self.at(ragged_ranges(starts_B, lengths_B))
        return torch.from_numpy(items_BLK), torch.from_numpy(shares_BLK)

    @classmethod
    def of_no_teacher(cls, log: PackedLog, top: int) -> Self:
        """The same items for every event, in the size of the real ones: to learn what a step costs before these are
        there."""
        shape = (len(log.items_N), min(top, log.num_items))
        items_NK = np.broadcast_to(np.arange(1, shape[1] + 1, dtype=np.int32), shape)
        return cls(items_NK, np.broadcast_to(np.float16(-np.log(2 * shape[1])), shape), "scores", 1.0)

    @classmethod
    def open(cls, folder: Path, *, by: Literal["scores", "ranks"], rank_decay: float) -> Self | None:
        """Map the finished files of a folder; None where there are none."""
        if not (folder / MANIFEST).is_file():
            return None
        try:
            items_NK, logs_NK = (np.load(folder / name, mmap_mode="r") for name in (ITEMS, LOGS))
        except (OSError, ValueError) as error:
            raise SeqrecError(f"{folder} is damaged ({error}); delete it, and it is made again") from error
        return cls(items_NK, logs_NK, by, rank_decay)


class SoftTargetsFile:
    """The files while a teacher is asked, users in their order: what is written stays when the work is stopped."""

    def __init__(self, folder: Path, log: PackedLog, top: int) -> None:
        self.folder = folder
        shape = (len(log.items_N), top)
        folder.mkdir(parents=True, exist_ok=True)
        self.users_done = self._done(shape)
        if self.users_done is None:
            _refuse_small_disk(folder, shape)
            for name, dtype in ((ITEMS, np.int32), (LOGS, np.float16)):
                array = np.lib.format.open_memmap(folder / name, "w+", dtype, shape)
                array.flush()
                if hasattr(os, "posix_fallocate"):  # the disk promises its bytes: writing to them cannot fail
                    with (folder / name).open("r+b") as file:
                        os.posix_fallocate(file.fileno(), 0, array.offset + array.nbytes)
            self.users_done = 0
            self.keep(0)
        self.items_NK, self.logs_NK = (np.load(folder / name, mmap_mode="r+") for name in (ITEMS, LOGS))

    def _done(self, shape: tuple[int, int]) -> int | None:
        """Users whose events are written; None where nothing is there, or nothing of use."""
        try:
            done = json.loads((self.folder / PROGRESS).read_text(encoding="utf-8"))["users"]
            sizes = [np.load(self.folder / name, mmap_mode="r").shape for name in (ITEMS, LOGS)]
        except (OSError, ValueError, KeyError):
            return None
        return int(done) if sizes == [shape, shape] else None

    def write(self, positions_M: np.ndarray, items_MK: Tensor, logs_MK: Tensor) -> None:
        """What was said of some events."""
        self.items_NK[positions_M] = items_MK.to(torch.int32).cpu().numpy()
        self.logs_NK[positions_M] = logs_MK.to(torch.float16).cpu().numpy()

    def keep(self, users: int) -> None:
        """The events of so many of the first users are written."""
        if self.users_done is not None and users > self.users_done:
            self.items_NK.flush()
            self.logs_NK.flush()
        write_atomically(self.folder / PROGRESS, json.dumps({"users": users}))
        self.users_done = users

    def finish(self, manifest: dict[str, Any]) -> None:
        """All users are done."""
        write_atomically(self.folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        (self.folder / PROGRESS).unlink(missing_ok=True)


def _refuse_small_disk(folder: Path, shape: tuple[int, int]) -> None:
    needed, free = BYTES * shape[0] * shape[1], shutil.disk_usage(nearest_folder(folder)).free
    if needed > free:
        raise SeqrecError(
            f"what the teacher says takes {needed / GIB:,.1f} GiB of disk, and {free / GIB:,.1f} GiB are free in "
            f"{folder.parent}; lower objective.top, or set data_dir to a larger disk"
        )
