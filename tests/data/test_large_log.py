"""Logs larger than memory: the same bytes as in memory, over all options of a log."""

import filecmp
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from dataset_helpers import dataset

from seqrec_cli.data.large import room
from seqrec_cli.data.preprocess import prepare

pytest.importorskip("duckdb")
ROWS = 900


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 64 rows, so that every log has many; blocks of users too."""
    monkeypatch.setattr(room, "LEAST", 64)
    monkeypatch.setattr(room, "MOST", 64)


def table(seed: int = 0) -> pa.Table:
    """A log with repeats, ties, users of one event, and columns of every kind."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, 60, ROWS), (rng.random(ROWS) ** 2 * 40).astype(int)
    times = 1_500_000_000 + rng.integers(0, 40, ROWS) * 3_600
    kinds = [f"k{item % 7}" if item % 5 else None for item in items.tolist()]
    names = [f"u{user:02d}" if user % 2 else f"Ü{user}" for user in users.tolist()]
    return pa.table(
        {
            "user": names,
            "number": pa.array(users * 11 + 5),
            "item": [f"i{item}" for item in items.tolist()],
            "time": pa.array(times),
            "stamp": pa.array((times * 1000).tolist(), pa.timestamp("ms")),
            "day": [np.datetime64(time, "s").item().strftime("%Y-%m-%d %H:%M:%S") for time in times.tolist()],
            "rating": pa.array(rng.integers(1, 6, ROWS) / 2),
            "place": pa.array(rng.integers(0, 5, ROWS)),
            "share": pa.array(rng.integers(0, 9, ROWS) / 4),
            "device": pa.array([["phone", "web", None][k] for k in rng.integers(0, 3, ROWS)]),
            "kind": kinds,
            "tags": [f"t{item % 3}|t{item % 4}" for item in items.tolist()],
            "price": pa.array((items * 1.5).tolist()),
            "town": [f"town {user % 4}" for user in users.tolist()],
            "visit": [f"v{user}-{time // 9}" for user, time in zip(users.tolist(), times.tolist(), strict=True)],
            "part": [["train", "train", "valid", "test"][k] for k in np.sort(rng.integers(0, 4, ROWS))],
        }
    )


def as_csv(folder: Path, log: pa.Table) -> Path:
    """One file of delimited text."""
    folder.mkdir(exist_ok=True)
    pyarrow.csv.write_csv(log, folder / "log.csv")
    return folder / "log.csv"


def as_parts(folder: Path, log: pa.Table) -> Path:
    """A folder of days, of Parquet with small row groups."""
    for day in range(3):
        part = log.slice(day * 300, 300)
        (folder / f"chunk={day}").mkdir(parents=True)
        pq.write_table(part, folder / f"chunk={day}" / "part-0.parquet", row_group_size=70)
    return folder


def built(engine: str, folder: Path, said: list[str], **values: Any) -> Path:
    log = prepare(dataset("csv", engine=engine, **values), folder / engine, said.append)
    assert log.folder is not None
    return log.folder


def same(folder: Path, **values: Any) -> Path:
    """Both engines' folders have the same name and the same files, byte for byte, and say the same."""
    said: dict[str, list[str]] = {"memory": [], "duckdb": []}
    memory, duck = (built(engine, folder, said[engine], **values) for engine in ("memory", "duckdb"))
    assert memory.name == duck.name
    names = sorted(path.name for path in memory.iterdir())
    assert names == sorted(path.name for path in duck.iterdir())
    differ = [name for name in names if not filecmp.cmp(memory / name, duck / name, shallow=False)]
    assert not differ, (memory / "manifest.json").read_text()[:2000] + (duck / "manifest.json").read_text()[:2000]
    spoken = [line for line in said["duckdb"] if not line.endswith(" s)")]
    assert [line.replace("/memory/", "/duckdb/") for line in said["memory"]] == spoken
    return duck


CORE = {"duplicates": "drop", "user_core": 9, "item_core": 12}
OPTIONS: dict[str, dict[str, Any]] = {
    "kept": {"duplicates": "keep"},
    "dropped": {"duplicates": "drop"},
    "core": CORE,
    "rated core": {"rating_column": "rating", "min_rating": 1.0, "duplicates": "drop", "user_core": 5, "item_core": 6},
    "untimed": {"time_column": None, "duplicates": "drop"},
    "numbers": {"user_column": "number", "duplicates": "keep"},
    "stamps": {"time_column": "stamp", "time_unit": "auto", "duplicates": "keep"},
    "dates": {"time_column": "day", "time_unit": "auto", "duplicates": "keep"},
    "milliseconds": {"time_unit": "ms", "duplicates": "keep"},
    "an order": {"time_column": "share", "time_unit": "order", "duplicates": "drop"},
    "further order": {"order_columns": ["place", "share"], "duplicates": "drop", "user_core": 3},
    "order alone": {"time_column": None, "order_columns": ["stamp"], "duplicates": "keep"},
    "weights": {"weight_column": "price", "duplicates": "keep", "user_core": 2},
    "sessions": {"session_column": "visit"} | CORE,
    "context": {"context_columns": ["device", "place", "town"]} | CORE,
    "numbers of events": {"context_columns": ["device", "share"], "numeric_columns": ["share"], "duplicates": "keep"},
    "attributes": {
        "item_attribute_columns": ["kind", "tags", "price"],
        "user_attribute_columns": ["town", "part"],
        "numeric_columns": ["price"],
        "value_separator": "|",
        "title_column": "kind",
    }
    | CORE,
    "many numbers": {"item_attribute_columns": ["price"], "user_attribute_columns": ["number"], "duplicates": "keep"},
    "owners": {"owner_column": "user", "duplicates": "keep"},
    "split": {"split_column": "part", "split_leaks": True} | CORE,
    "by position": {"user_column": 0, "item_column": 2, "time_column": 3, "duplicates": "keep"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("write", [as_csv, as_parts])
def test_the_same_bytes(tmp_path: Path, options: dict[str, Any], write: Callable[[Path, pa.Table], Path]) -> None:
    log = table()
    if "weight_column" in options:
        log = log.set_column(log.column_names.index("price"), "price", pa.array(np.arange(ROWS) % 7 + 0.5))
    same(tmp_path, archive=write(tmp_path / "log", log), **options)
