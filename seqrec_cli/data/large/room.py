"""Memory and disk that preprocessing a large log may take, and whether they are there."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.parts import Part, Parts
from seqrec_cli.faults import nearest_folder
from seqrec_cli.machine import GIB, memory_left

DEFAULT = 8 * GIB  # of memory, where neither the settings nor the machine say anything
SHARE = 0.6  # of the memory that is left, where the settings say nothing
LEAST, MOST = 1 << 14, 1 << 20  # rows of a batch
BYTES_A_ROW = 4_096  # of memory, for each row of a batch
PER_BYTE = {"parquet": 8, "text": 2, "lines": 1}  # disk that a byte of the raw file takes, at most, in all stages
PACKED = 6  # times as large unpacked
IN_MEMORY = {"parquet": 60, "text": 12, "lines": 8}  # bytes of memory for a byte of the raw file


class ShortageError(SeqrecError):
    """Nothing is wrong with the log: memory, disk, a connection or an engine fell short. Finished stages are kept."""


@dataclass(frozen=True)
class Room:
    """Bytes of memory, and rows that are held at once in it."""

    memory: int

    @classmethod
    def of(cls, cfg: DatasetConfig) -> "Room":
        """By `dataset.memory`, or a share of what is left."""
        if cfg.memory is not None:
            return cls(cfg.memory_bytes)
        left = memory_left()
        return cls(DEFAULT if left is None else int(left * SHARE))

    @property
    def batch_rows(self) -> int:
        """Rows of a batch, or of a block."""
        return min(MOST, max(LEAST, self.memory // BYTES_A_ROW))

    def free(self, folder: Path) -> int:
        """Bytes of disk."""
        return shutil.disk_usage(nearest_folder(folder)).free

    def refuse_small_disk(self, parts: Parts, work: Path) -> None:
        """Raises SeqrecError where the log will hardly fit beside its stages."""
        self._refuse(sum(_size(part) * PER_BYTE[part.kind] for part in parts.parts), work)

    def refuse_small_disk_for_sorting(self, rows: int, columns: int, work: Path) -> None:
        """The same, when the rows are counted: ordered once, sorted beside that, and written."""
        self._refuse(rows * columns * 8 * 3, work)

    def _refuse(self, needed: int, work: Path) -> None:
        free = self.free(work)
        if needed > free:
            raise ShortageError(
                f"preprocessing this log may take {needed / GIB:,.1f} GiB of disk, and {free / GIB:,.1f} GiB are free "
                f"in {nearest_folder(work)}; free some, or set data_dir to a larger disk"
            )

    def would_not_hold(self, parts: Parts) -> bool:
        """Whether reading the log in memory would take more than this."""
        return sum(_size(part) * IN_MEMORY[part.kind] for part in parts.parts) > self.memory


def _size(part: Part) -> int:
    """Bytes of a part, unpacked by a guess."""
    packed = part.name.lower().endswith((".gz", ".bz2", ".zst", ".xz"))
    return part.size * (PACKED if packed else 1)
