"""`dataset.item_vectors`: three kinds of files, what is counted, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_helpers import build, dataset

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare

LOG = "user,item,time\n" + "".join(f"{user},a{(user + nth) % 5},{nth}\n" for user in range(3) for nth in range(4))
IDS = ["a0", "a1", "a2", "a4", "z"]  # a3 has none, z is no item
VECTORS = np.arange(15, dtype=np.float32).reshape(5, 3)


def as_csv(path: Path, header: str = "id,x,y,z\n") -> None:
    rows = [",".join([name, *map(str, vector)]) for name, vector in zip(IDS, VECTORS.tolist(), strict=True)]
    path.write_text(header + "\n".join(rows) + "\n", encoding="utf-8")


def write(folder: Path, kind: str) -> Path:
    path = folder / f"vectors.{kind.split('-')[-1]}"
    if kind == "npz":
        np.savez(path, ids=np.array(IDS), vectors=VECTORS.astype(np.float64))
    elif kind == "fixed-parquet":
        flat = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.ravel()), 3)
        pq.write_table(pa.table({"item": IDS, "vector": flat}), path)
    elif kind == "list-parquet":
        pq.write_table(pa.table({"item": IDS, "vector": VECTORS.tolist()}), path)
    elif kind == "wide-parquet":
        pq.write_table(pa.table({"item": IDS} | {f"v{k}": VECTORS[:, k] for k in range(3)}), path)
    else:
        as_csv(path, "" if kind == "bare-csv" else "id,x,y,z\n")
    return path


def read(folder: Path, vectors: Path | None, said: list[str] | None = None, **values: Any) -> PackedLog:
    path = folder / "log.csv"
    path.write_text(LOG, encoding="utf-8")
    cfg = dataset("csv", archive=path, item_vectors=vectors, **values)
    return prepare(cfg, folder / "data", (lambda line: None) if said is None else said.append)


@pytest.mark.parametrize("kind", ["npz", "fixed-parquet", "list-parquet", "wide-parquet", "csv", "bare-csv"])
def test_each_item_gets_its_vector(tmp_path: Path, kind: str) -> None:
    said: list[str] = []
    log = read(tmp_path, write(tmp_path, kind), said)
    assert log.catalog.item_vectors is not None
    expected = [VECTORS[0], VECTORS[1], VECTORS[2], np.full(3, np.nan), VECTORS[3]]
    np.testing.assert_array_equal(log.catalog.item_vectors[1:], expected)
    assert np.isnan(log.catalog.item_vectors[0]).all()
    line = next(line for line in said if "vector" in line)
    assert "4 of 5 items have a vector of 3 numbers (1 have none); 1 vectors are of no item" in line
    assert line in log.manifest["notes"]


def test_the_bytes_of_the_vectors_count_and_their_place_does_not(tmp_path: Path) -> None:
    path, plain = write(tmp_path, "csv"), read(tmp_path, None)
    with_vectors = read(tmp_path, path)
    assert "item_vectors" not in plain.manifest
    assert "item_vectors" not in plain.manifest["settings"]
    moved = path.rename(tmp_path / "moved.csv")
    assert read(tmp_path, moved).fingerprint == with_vectors.fingerprint
    moved.write_text(moved.read_text(encoding="utf-8").replace("13.0", "13.5"), encoding="utf-8")
    assert len({plain.fingerprint, with_vectors.fingerprint, read(tmp_path, moved).fingerprint}) == 3


def refused(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(SeqrecError) as caught:
        read(folder, folder / name)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("id,x,y\na0,1,nan\n", "NaN or infinity in the vector of item a0"),
        ("id,x,y\na0,1,\n", "NaN or infinity in the vector of item a0"),
        ("id,x,y\na0,1,2\na1,1\n", "cannot be read"),
        ("id,x,y\na0,1,2\na0,3,4\n", "more than one vector of item a0"),
        ("id,x,y\nb0,1,2\n", r"no id of v.csv (b0) is an item of the log (a0, a1, a2)"),
        ("id\na0\n", "expected one of the same width for each"),
        ("id,x\na0,left\n", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_bad_vectors_are_refused_in_a_line(tmp_path: Path, text: str, why: str) -> None:
    said = refused(tmp_path, "v.csv", text)
    assert why in said
    assert "\n" not in said
    assert not list((tmp_path / "data").glob("*/manifest.json"))


def test_other_files_are_refused(tmp_path: Path) -> None:
    assert "ends in .parquet, .csv or .npz" in refused(tmp_path, "v.txt", "a0 1 2")
    with pytest.raises(SeqrecError, match="no such file"):
        read(tmp_path, tmp_path / "none.csv")
    np.savez(tmp_path / "v.npz", vectors=VECTORS)
    with pytest.raises(SeqrecError, match="no array 'ids'"):
        read(tmp_path, tmp_path / "v.npz")
    pq.write_table(pa.table({"item": ["a0", "a1"], "vector": [[1.0, 2.0], [1.0]]}), tmp_path / "v.parquet")
    with pytest.raises(SeqrecError, match=r"several widths \(1, 2\)"):
        read(tmp_path, tmp_path / "v.parquet")
    np.savez(tmp_path / "v.npz", ids=np.array([object()]), vectors=VECTORS)
    with pytest.raises(SeqrecError, match="cannot be read"):  # nothing is unpickled
        read(tmp_path, tmp_path / "v.npz")


def test_generated_logs_take_vectors_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", ids=np.arange(1, 61), vectors=np.ones((60, 2)))
    log = build(
        dataset("synthetic", users=20, items=60, max_events=12, item_vectors=tmp_path / "v.npz"), tmp_path / "data"
    )
    assert log.catalog.item_vectors is not None
    assert np.isfinite(log.catalog.item_vectors[1:]).all()
