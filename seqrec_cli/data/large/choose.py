"""Which engine preprocesses a log: as told, or by its size.

Imported by every preprocessing, so nothing heavy is imported here.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.large.room import Room
from seqrec_cli.data.remote import Address
from seqrec_cli.machine import GIB
from seqrec_cli.saying import Say

if TYPE_CHECKING:
    from seqrec_cli.data.large.engine import Engine
    from seqrec_cli.data.large.stage_state import StagedFile

SMALL = 64 << 20  # bytes of all files: less is read in memory without a closer look


def large_room(cfg: DatasetConfig, path: Path | Address, say: Say) -> Room | None:
    """The memory that an engine on disk may take; None where the log is read in memory."""
    if cfg.engine == "memory":
        return None
    lacks = _lacks(cfg)
    if cfg.engine != "auto":
        if lacks is not None:
            raise SeqrecError(f"dataset.engine={cfg.engine} {lacks}; set dataset.engine=memory")
        return Room.of(cfg)
    size, room = _files(cfg, path)
    if room is None or size is None:
        return None
    if lacks is None and importlib.util.find_spec("duckdb") is None:
        lacks = "needs DuckDB, which is not installed (pip install 'seqrec[large]')"
    if lacks is not None:
        say(
            f"WARNING: in memory this log may take more than {room.memory / GIB:,.1f} GiB, and dataset.engine=duckdb "
            f"{lacks}"
        )
        return None
    say(f"this log may take more than {room.memory / GIB:,.1f} GiB in memory: it is preprocessed by DuckDB on disk")
    return room


def _files(cfg: DatasetConfig, path: Path | Address) -> tuple[Any, Room | None]:
    """The bytes of all parts, and the memory that they may not fit in; None where they do."""
    if not cfg.in_parts:
        return None, None
    from seqrec_cli.data.tables import log_parts

    parts, _ = log_parts(cfg, path)  # type: ignore[arg-type]
    size = sum(part.size for part in parts.parts)
    if size < SMALL and cfg.memory is None:
        return size, None
    room = Room.of(cfg)
    return size, room if room.would_not_hold(parts) else None


def _lacks(cfg: DatasetConfig) -> str | None:
    """What the engine does not do of these settings; None where it does all."""
    if cfg.source != "csv":
        return f"reads dataset=csv, not dataset.source={cfg.source}"
    if cfg.predict == "users":
        return "does not turn a log around (dataset.predict=users)"
    for name in ("label_column", "sequence_separator"):
        if getattr(cfg, name) is not None:
            return f"does not read dataset.{name}"
    return None


def open_engine(
    name: str, staged: Path, files: "Sequence[StagedFile]", *, scratch: Path, memory: int, disk: int
) -> "Engine":
    """The engine that `dataset.engine` names; DuckDB for `auto`. `memory` and `disk` in bytes.

    Raises SeqrecError where it is not installed.
    """
    if name == "spark":
        from seqrec_cli.data.large.spark import Spark

        return Spark(staged, files, scratch, memory=memory, disk=disk)
    from seqrec_cli.data.large.duck import Duck

    return Duck(staged, files, scratch, memory=memory, disk=disk)
