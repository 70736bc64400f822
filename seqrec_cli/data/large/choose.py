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

LEAST_MEMORY = 192 << 20  # bytes: 128 MiB of DuckDB itself, 64 of the smallest batches
SMALL = 64 << 20  # bytes of all files: less is read in memory without a closer look


def large_room(cfg: DatasetConfig, path: Path | Address, say: Say) -> Room | None:
    """The memory that an engine on disk may take; None where the log is read in memory."""
    if cfg.engine == "memory":
        return None
    lacks = _lacks(cfg)
    if cfg.engine != "auto":
        if lacks is not None:
            raise SeqrecError(f"dataset.engine={cfg.engine} {lacks}; set dataset.engine=memory")
        _refuse_missing(cfg.engine)
        return _told(Room.of(cfg), cfg, say)
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
    return _told(room, cfg, say)


def _refuse_missing(engine: str) -> None:
    """Raises SeqrecError for an engine that is not installed: before a row is read."""
    if engine == "spark" and importlib.util.find_spec("pyspark") is None:
        from seqrec_cli.data.large.spark import MISSING

        raise SeqrecError(MISSING.format(lacks="PySpark is not installed"))
    if engine == "duckdb" and importlib.util.find_spec("duckdb") is None:
        from seqrec_cli.data.large.duck import MISSING

        raise SeqrecError(MISSING)


def _told(room: Room, cfg: DatasetConfig, say: Say) -> Room:
    """The room; said, where the engine cannot keep to so little."""
    if cfg.memory is not None and room.memory < LEAST_MEMORY:
        say(
            f"WARNING: dataset.memory={cfg.memory} is less than the {LEAST_MEMORY >> 20} MiB that an engine and its "
            "batches take at least; they take those"
        )
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
