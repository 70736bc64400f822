"""Pre-trained vectors of items, from a file to the catalog (`dataset.item_vectors`), or to a service (`item_vectors`).

Parquet: the ids, then a column of lists, or a column for each number; CSV: a header, the ids, then the numbers; .npz
(numpy): arrays `ids` and `vectors`. An id is that of the log, compared as text.

Legend: K vectors of the file, V items of the catalog (row 0 is padding), W width.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_cli.config.errors import SeqrecError, first_line
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.parts import local_path
from seqrec_cli.saying import Say

KINDS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".npz": "npz"}


def vectors_file(given: str | None, setting: str = "dataset.item_vectors") -> Path | None:
    """The file of that setting. Raises SeqrecError where there is none, or of no known kind."""
    if given is None:
        return None
    path = local_path(given, setting)
    if not path.is_file():
        raise SeqrecError(f"{setting}={given}: no such file")
    if path.suffix.lower() not in KINDS:
        raise SeqrecError(f"{setting}={given}: expected a name that ends in .parquet, .csv or .npz")
    return path


def with_item_vectors(log: PackedLog, items: Any, path: Path, *, say: Say) -> PackedLog:
    """The log, its items' vectors from that file in the catalog; `items` are the raw ids in order (NumPy's or Arrow's).

    Says how many items have one. Raises SeqrecError as `item_vectors_of`.
    """
    vectors_VW, note = item_vectors_of(items, path)
    say(note)
    manifest = {**log.manifest, "notes": [*log.manifest.get("notes", ()), note]}
    return replace(log, catalog=replace(log.catalog, item_vectors=vectors_VW), manifest=manifest)


def item_vectors_of(items: Any, path: Path, setting: str = "dataset.item_vectors") -> tuple[np.ndarray, str]:
    """The vectors float32 [V + 1, W] of the items with these raw ids, NaN where the file has none, and a word on how
    many have one. Raises SeqrecError on a damaged file, vectors of several widths, NaN, an id twice, or where no item
    has a vector."""
    ids, vectors_KW = read_vectors(path, setting)
    nth = {text: k for k, text in enumerate(ids)}
    if len(nth) < len(ids):
        twice = next(text for k, text in enumerate(ids) if nth[text] != k)
        raise SeqrecError(f"{setting}: {path.name} has more than one vector of item {twice}")
    if not np.isfinite(vectors_KW).all():
        first = int(np.argmin(np.isfinite(vectors_KW).all(axis=1)))
        raise SeqrecError(f"{setting}: {path.name} has NaN or infinity in the vector of item {ids[first]}")
    found = np.array([nth.get(str(item), -1) for item in items.tolist()])
    if not (found >= 0).any():
        raise SeqrecError(
            f"{setting}: no id of {path.name} ({', '.join(ids[:3])}) is an item of the log "
            f"({', '.join(map(str, items[:3].tolist()))})"
        )
    vectors_VW = np.full((len(items) + 1, vectors_KW.shape[1]), np.nan, np.float32)
    vectors_VW[1:][found >= 0] = vectors_KW[found[found >= 0]]
    have, spare = int((found >= 0).sum()), len(ids) - int((found >= 0).sum())
    without = f"{len(items) - have:,} have none" if have < len(items) else "all"
    note = (
        f"{path.name}: {have:,} of {len(items):,} items have a vector of {vectors_KW.shape[1]} numbers ({without}); "
        f"{spare:,} vectors are of no item of the log"
    )
    return vectors_VW, note


def read_vectors(path: Path, setting: str = "dataset.item_vectors") -> tuple[list[str], np.ndarray]:
    """The ids as text, and their vectors float32 [K, W]."""
    try:
        kind = KINDS[path.suffix.lower()]
        ids, vectors_KW = _of_npz(path) if kind == "npz" else _of_table(path, kind)
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's own are ValueErrors
        raise SeqrecError(f"{setting}: {path.name} cannot be read: {first_line(error)}") from None
    if vectors_KW.ndim != 2 or len(vectors_KW) != len(ids) or not vectors_KW.shape[1]:
        raise SeqrecError(
            f"{setting}: {path.name} has {len(ids)} ids and vectors of shape {vectors_KW.shape}; expected "
            "one of the same width for each"
        )
    return ids, vectors_KW


def _of_npz(path: Path) -> tuple[list[str], np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        missing = {"ids", "vectors"} - set(arrays.files)
        if missing:
            raise ValueError(f"no array '{min(missing)}' (has: {', '.join(arrays.files)}; ids as numbers or text)")
        return [str(each) for each in arrays["ids"].tolist()], arrays["vectors"].astype(np.float32)


def _of_table(path: Path, kind: str) -> tuple[list[str], np.ndarray]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.parquet as pq

    if kind == "csv":
        with path.open(encoding="utf-8-sig") as file:
            fields = file.readline().split(",")[1:]
        names = ["id", *(f"v{nth}" for nth in range(len(fields)))]
        table = pa.csv.read_csv(
            str(path),
            pa.csv.ReadOptions(column_names=names, skip_rows=int(not _all_numbers(fields))),
            convert_options=pa.csv.ConvertOptions(column_types={"id": pa.string()}),
        )
    else:
        table = pq.read_table(path)
    ids, columns = [str(each) for each in table.column(0).to_pylist()], table.columns[1:]
    if len(columns) == 1 and hasattr(columns[0].type, "value_type"):
        lists = columns[0].combine_chunks()
        widths = sorted(set(pc.fill_null(pc.list_value_length(lists), 0).to_pylist()))
        if len(widths) != 1:
            raise ValueError(f"its vectors are of several widths ({', '.join(map(str, widths[:3]))})")
        return ids, np.asarray(lists.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(len(ids), -1)
    numbers = [np.asarray(column.to_numpy(), np.float32) for column in columns]
    return ids, np.stack(numbers, axis=1) if numbers else np.empty((len(ids), 0), np.float32)


def _all_numbers(texts: list[str]) -> bool:
    """And not none: else the first line is a header."""
    try:
        return bool([float(text) for text in texts])
    except ValueError:
        return False
