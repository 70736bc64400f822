"""Arrays on disk, appended to a piece at a time, read by memory map.

They are written as a file is, not through a map: on a full disk a write is refused, where a map would end the process.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np


class ArrayWriter:
    """A `.npy` file of a known length."""

    def __init__(self, path: Path, dtype: np.dtype | type, shape: tuple[int, ...]) -> None:
        self.path, self.dtype = path, np.dtype(dtype)
        self._file = path.open("wb")
        described = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, described)

    def append(self, values: np.ndarray) -> None:
        """The next rows."""
        self._file.write(np.ascontiguousarray(values, self.dtype).data)

    def close(self) -> None:
        """No more will come."""
        self._file.close()


def mapped(path: Path) -> np.ndarray:
    """The array of a file, read where it lies."""
    array: np.ndarray = np.load(path, mmap_mode="c")
    return array


def close_all(writers: Mapping[str, ArrayWriter]) -> None:
    """All of them."""
    for writer in writers.values():
        writer.close()
