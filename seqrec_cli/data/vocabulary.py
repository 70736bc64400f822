"""Raw ids and attribute values as indices, and the way back.

Legend: N events, V items (index 1..V), U users (row 0..U-1, index 1..U), W values a row.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from seqrec_cli.data.catalog import Attribute
from seqrec_cli.data.raw import AttributeTable


def factorize(ids_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct raw ids, sorted, and the index of each event's id among them, int64 [N]."""
    if ids_N.dtype.kind in "iu":
        low, high = int(ids_N.min(initial=0)), int(ids_N.max(initial=0))
        if high - low > 8 * len(ids_N) + 1_000_000:
            distinct, codes_N = np.unique(ids_N, return_inverse=True)
            return distinct, codes_N
        present = np.zeros(high - low + 1, bool)  # ids are dense: a table is cheaper than a sort
        present[ids_N - low] = True
        return np.flatnonzero(present) + low, (np.cumsum(present) - 1)[ids_N - low]
    from seqrec_cli.data.arrow import from_numpy, to_numpy

    # Equal texts are nearly always one object: hashing addresses is cheaper than hashing every text.
    coded = from_numpy(np.fromiter(map(id, ids_N.tolist()), np.int64, len(ids_N))).dictionary_encode()
    objects_N = to_numpy(coded.indices)
    objects = ids_N[first_rows(objects_N, len(coded.dictionary))].tolist()
    texts = sorted(set(objects))
    code = dict(zip(texts, range(len(texts)), strict=True))
    distinct = np.empty(len(texts), object)
    distinct[:] = texts
    return distinct, np.fromiter(map(code.__getitem__, objects), np.int64, len(objects))[objects_N]


def first_rows(codes_N: np.ndarray, count: int) -> np.ndarray:
    """For each of `count` codes, the index of its first row (every code must occur)."""
    first = np.empty(count, np.int64)
    first[codes_N[::-1]] = np.arange(len(codes_N) - 1, -1, -1)
    return first


def encode_attribute(name: str, table: AttributeTable, ids: np.ndarray) -> tuple[Attribute, np.ndarray, list[str]]:
    """An attribute of the rows `ids`: its sizes, its values int32 [len(ids) + 1, W], and the text of values 1...

    Row 0 and ids the table does not hold have no value (0). The table's other ids are left out.
    """
    by_id = dict(zip(table.ids.tolist(), table.values, strict=True))
    rows = [[text for text in by_id.get(raw_id, ()) if text] for raw_id in ids.tolist()]
    texts = sorted({text for row in rows for text in row})
    code = {text: k for k, text in enumerate(texts, 1)}
    width = max(1, max(map(len, rows), default=1))
    values = np.zeros((len(ids) + 1, width), np.int32)
    for row, words in enumerate(rows, 1):
        values[row, : len(words)] = [code[text] for text in words]
    return Attribute(name, len(texts) + 1, width), values, texts


def write_vocabulary(folder: Path, name: str, ids: Any, *, titles: Any = None) -> None:
    """`<name>.parquet`: columns index (from 1), id, and title where the source has one.

    Ids are a NumPy or an Arrow array, titles an `AttributeTable` or an Arrow array of texts.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from seqrec_cli.data.arrow import from_numpy, from_texts

    columns = {
        "index": from_numpy(np.arange(1, len(ids) + 1, dtype=np.int32)),
        "id": from_numpy(ids) if isinstance(ids, np.ndarray) else ids,
    }
    if isinstance(titles, pa.Array):
        columns["title"] = titles
    elif titles is not None:
        by_id = dict(zip(titles.ids.tolist(), titles.values, strict=True))
        columns["title"] = from_texts([" ".join(by_id.get(raw_id, ())) for raw_id in ids.tolist()])
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def titles(folder: Path) -> list[str] | None:
    """The items' titles, of item index 1 first; None where the source has none."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(folder / "items.parquet") as file:
        if "title" not in file.schema_arrow.names:
            return None
        found: list[str] = file.read(columns=["title"])["title"].to_pylist()
        return found


def vocabulary(folder: Path, name: Literal["items", "users"]) -> np.ndarray:
    """Raw ids of a packed log, int64 or str objects: `ids[index - 1]` for items, `ids[row]` for user rows."""
    import pyarrow.parquet as pq

    from seqrec_cli.data.arrow import one_array, to_numpy

    with pq.ParquetFile(folder / f"{name}.parquet") as file:
        return to_numpy(one_array(file.read(columns=["id"])["id"]))
