"""Ordered rows on disk: written from an engine's batches, and found again where an earlier process had finished them.

Legend: N rows, U users.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seqrec_cli.data.arrow import one_array, to_numpy
from seqrec_cli.data.large.arrays import ArrayWriter, close_all, mapped
from seqrec_cli.data.large.engine import Engine
from seqrec_cli.data.large.passes import Advance, Ordered
from seqrec_cli.data.large.stage_state import print_of
from seqrec_cli.files import write_atomically

DONE = "ordered.json"
CODES = ("user", "item", "session")


def vocabularies(engine: Engine, folder: Path) -> dict[str, pa.Array]:
    """The distinct ids of users and items, sorted, and of sessions in the order of their first rows; all are then codes
    of the engine. They are kept in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, pa.Array] = {}
    for column in [name for name in CODES if name in engine.columns]:
        path = folder / f"{column}s.parquet"
        note = folder / f"{column}s.json"
        if _is_whole(path, note):
            with pq.ParquetFile(path) as file:
                found[column] = one_array(file.read()["id"])
        else:
            found[column] = engine.numbered(column) if column == "session" else engine.ids(column)
            pq.write_table(pa.table({"id": found[column]}), path, compression="lz4")
            write_atomically(note, json.dumps(print_of(path)))
        engine.code(column, found[column])
    return found


def _is_whole(path: Path, note: Path) -> bool:
    try:
        return list(print_of(path)) == json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def ordered_rows(engine: Engine, folder: Path, *, rows: int, users: int, items: int, advance: Advance) -> Ordered:
    """All rows by user and then by their keys, in arrays of the folder."""
    counts_U = _finished(folder)
    if counts_U is None:
        coded = [name for name in CODES if name in engine.columns]
        columns = [name for name in engine.columns if name not in coded and not name.startswith("about")]
        counts_U = write_ordered(engine.ordered(columns, coded), folder, rows=rows, users=users, advance=advance)
    stored = {path.stem: mapped(path) for path in sorted(folder.glob("*.npy")) if path.stem != "counts"}
    return Ordered(stored, counts_U, items)


def write_ordered(
    batches: Iterator[pa.RecordBatch], folder: Path, *, rows: int, users: int, advance: Advance
) -> np.ndarray:
    """The columns of ordered batches as arrays; how many rows each user has, int64 [U]."""
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, ArrayWriter] = {}
    counts_U = np.zeros(users, np.int64)
    for batch in batches:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            values_N = to_numpy(column)
            if name not in writers:
                writers[name] = ArrayWriter(folder / f"{name}.npy", values_N.dtype, (rows,))
            writers[name].append(values_N)
            if name == "user" and len(values_N):
                first = int(values_N[0])
                counts = np.bincount(values_N - first)
                counts_U[first : first + len(counts)] += counts
        advance(batch.num_rows)
    close_all(writers)
    np.save(folder / "counts.npy", counts_U)
    prints = {path.name: print_of(path) for path in sorted(folder.glob("*.npy"))}
    write_atomically(folder / DONE, json.dumps(prints))
    return counts_U


def _finished(folder: Path) -> np.ndarray | None:
    """The users' counts of rows, where all arrays are there as they were written."""
    try:
        prints = json.loads((folder / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if any(list(print_of(folder / name)) != told for name, told in prints.items()):
        return None
    counts_U: np.ndarray = np.load(folder / "counts.npy")
    return counts_U
