"""Spark in local mode as the engine of preprocessing: the same bytes as in memory, and refusals in words."""

import filecmp
import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_helpers import dataset

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.large import choose, room
from seqrec_cli.data.preprocess import prepare

needs_spark = pytest.mark.skipif(
    importlib.util.find_spec("pyspark") is None or shutil.which("java") is None, reason="needs PySpark and Java"
)
COLUMNS = {"user_column": "user", "item_column": "item", "time_column": "time", "time_unit": "s"}


def parts(folder: Path) -> Path:
    """Days whose ids are numbers in one and text in another, with repeats, ties, blanks, and attributes that differ."""
    first = {
        "user": [10, 9, 10, 9, 10, 7],
        "item": ["b", "a", "b", "é", " c", "a"],
        "time": [5, 5, 5, 4, 5, 9],
        "kind": ["x", None, "x", "z", "x", "y"],
        "device": ["web", "web", None, "phone", "web", "web"],
        "visit": ["v9", "v1", "v9", "v1", "v9", "v3"],
    }
    second = {
        "user": ["u1", "10", "9", "u1", "7", "u1"],
        "item": ["c", "a", "b", "a", "b", "é"],
        "time": [1, 5, 5, 1, 2, 1],
        "kind": ["w", "q", None, "y", "x", "z"],
        "device": ["phone", "web", "web", "tv", None, "web"],
        "visit": ["v2", "v9", "v1", "v2", "v4", "v2"],
    }
    for day, columns in enumerate((first, second)):
        (folder / f"day={day}").mkdir(parents=True)
        pq.write_table(pa.table(columns), folder / f"day={day}" / "part-0.parquet")
    return folder


def built(engine: str, folder: Path, said: list[str], **values: Any) -> Path:
    log = prepare(dataset("csv", engine=engine, **values), folder / engine, said.append)
    assert log.folder is not None
    return log.folder


@needs_spark
def test_spark_makes_the_bytes_that_memory_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that an engine is asked for: ids of mixed kinds, an order with ties, first values, sessions' numbers."""
    opened = []
    open_engine = choose.open_engine
    monkeypatch.setattr(room, "LEAST", 4)
    monkeypatch.setattr(room, "MOST", 4)
    monkeypatch.setattr(
        "seqrec_cli.data.large.build.open_engine",
        lambda name, *a, **k: opened.append(name) or open_engine(name, *a, **k),
    )
    values = COLUMNS | {"archive": str(parts(tmp_path / "log")), "duplicates": "drop", "context_columns": ["device"]}
    values |= {"item_attribute_columns": ["kind"], "session_column": "visit"}
    said: dict[str, list[str]] = {"memory": [], "spark": []}
    memory, spark = (built(engine, tmp_path, said[engine], **values) for engine in ("memory", "spark"))
    assert opened == ["spark"]
    names = sorted(path.name for path in memory.iterdir())
    assert (memory.name, names) == (spark.name, sorted(path.name for path in spark.iterdir()))
    assert [name for name in names if not filecmp.cmp(memory / name, spark / name, shallow=False)] == []
    assert any("differing kind" in line for line in said["spark"])
    assert not list((tmp_path / "spark").glob(".*.work"))


def test_without_pyspark_the_engine_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.errors", None)  # installed, and not to be imported
    monkeypatch.setattr("seqrec_cli.data.large.choose.importlib.util.find_spec", lambda name: name)
    values = COLUMNS | {"archive": str(parts(tmp_path / "log")), "duplicates": "drop"}
    with pytest.raises(
        SeqrecError, match=r"PySpark is not installed; pip install 'seqrec\[spark\]', or dataset.engine="
    ):
        built("spark", tmp_path, [], **values)


def test_what_spark_does_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match=r"dataset.engine=spark does not read dataset.label_column"):
        built("spark", tmp_path, [], **COLUMNS, archive=str(parts(tmp_path / "log")), label_column="device")
