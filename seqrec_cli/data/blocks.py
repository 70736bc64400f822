"""Whole arrays a block at a time, and arrays that are too large for memory on disk: what grows with a log stays flat.

Legend: N events, U users.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

EVENTS = 1 << 22  # of a block
ON_DISK = 1 << 28  # bytes from which an array that is made lies in a file


def user_blocks(offsets_U1: np.ndarray, events: int = EVENTS) -> Iterator[tuple[slice, slice]]:
    """(user rows, their events): whole users, about so many events at once (one user's, if these are more)."""
    offsets_U1 = np.asarray(offsets_U1)
    first, users = 0, len(offsets_U1) - 1
    while first < users:
        last = int(np.searchsorted(offsets_U1, offsets_U1[first] + events, side="right")) - 1
        last = min(max(last, first + 1), users)
        yield slice(first, last), slice(int(offsets_U1[first]), int(offsets_U1[last]))
        first = last


def row_blocks(count: int, width: int = 1) -> Iterator[slice]:
    """Slices of rows that are so wide."""
    step = max(1, EVENTS // max(width, 1))
    for first in range(0, count, step):
        yield slice(first, min(first + step, count))


def zeros(shape: tuple[int, ...], dtype: type, folder: Path | None) -> np.ndarray:
    """An array of zeros: in memory, or if it is large in a file of that folder that has no name and goes with it.

    The disk has promised its bytes, so that writing to it cannot fail.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size < ON_DISK or folder is None or not hasattr(os, "posix_fallocate"):
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype, mode="r+", shape=shape)
