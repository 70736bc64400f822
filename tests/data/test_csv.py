"""Delimited and Parquet logs whose columns the configuration names."""

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_helpers import build, dataset
from pydantic import ValidationError

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.vocabulary import vocabulary

HEADER = "user,item,time,stars,kind,tags,town"
ROWS = (
    'b,007,30,5,book,"x|y",Rome',
    "b,7,10,4,film,,Rome",
    "b,9,20,3,book,y,Oslo",
    "a,7,5,2,film,z,",
)


def write(folder: Path, *rows: str, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def read(folder: Path, path: Path, **values: Any) -> PackedLog:
    return build(dataset("csv", archive=path, **values), folder / "data")


def test_ids_that_differ_only_as_text_stay_apart(tmp_path: Path) -> None:
    log = read(tmp_path, write(tmp_path, HEADER, *ROWS))
    items = vocabulary(log.folder, "items")
    assert items.tolist() == ["007", "7", "9"]
    assert items[log.items_N - 1].tolist() == ["7", "7", "9", "007"]
    assert vocabulary(log.folder, "users").tolist() == ["a", "b"]
    assert log.times_N.tolist() == [5, 10, 20, 30]


def test_whole_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    log = read(tmp_path, write(tmp_path, "user,item,time", "1,10,1", "1,9,2", "1,-3,3"))
    assert vocabulary(log.folder, "items").tolist() == [-3, 9, 10]


def test_ratings_and_attributes(tmp_path: Path) -> None:
    log = read(
        tmp_path,
        write(tmp_path, HEADER, *ROWS),
        rating_column="stars",
        item_attribute_columns=["kind", "tags"],
        user_attribute_columns=["town"],
        value_separator="|",
    )
    assert log.ratings_N.tolist() == [2, 4, 3, 5]
    assert log.manifest["item_attribute_values"] == {"kind": ["book", "film"], "tags": ["x", "y", "z"]}
    assert log.catalog.item_values["kind"][:, 0].tolist() == [0, 1, 2, 1]
    assert log.catalog.item_values["tags"].tolist() == [[0, 0], [1, 2], [3, 0], [2, 0]]  # 7's first row has none
    assert log.catalog.user_values["town"][:, 0].tolist() == [0, 0, 1]  # a has none, b's first is Rome
    assert log.manifest["notes"][-1] == "1 users have rows with differing town; each takes its first row's"


@pytest.mark.parametrize("setting", ["item_attribute_columns", "context_columns"])
def test_columns_of_one_name_as_attributes_are_refused(tmp_path: Path, setting: str) -> None:
    path = write(tmp_path, "user,item,time,price ($),price [%]", "a,5,1,2,3", "a,6,2,3,4", "b,5,3,2,3")
    with pytest.raises(SeqrecError, match=r"'price \(\$\)' and 'price \[%\]' are both called price_ as attributes"):
        read(tmp_path, path, **{setting: ["price ($)", "price [%]"]})


def test_a_file_without_header_is_read_by_position_or_by_given_names(tmp_path: Path) -> None:
    path = write(tmp_path, "5;x;1;k", "6;x;2;k", "7;x;3;k")
    shared: dict[str, Any] = {"header": False, "delimiter": ";"}
    placed = read(
        tmp_path, path, user_column=1, item_column=0, time_column=2, item_attribute_columns=[3], name="p", **shared
    )
    names = ["item", "user", "time", "kind"]
    named = read(tmp_path, path, columns=names, item_attribute_columns=["kind"], name="n", **shared)
    for log in (placed, named):
        assert vocabulary(log.folder, "items").tolist() == [5, 6, 7]
    assert placed.catalog.item_attributes[0].name == "column_3"
    assert named.catalog.item_attributes[0].name == "kind"


@pytest.mark.parametrize("kind", ["csv.gz", "parquet"])
def test_compressed_and_parquet_files_hold_the_same(tmp_path: Path, kind: str) -> None:
    plain = write(tmp_path, HEADER, *ROWS)
    path = tmp_path / f"log.{kind}"
    if kind == "csv.gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        cells = [["b", "007", 30, "book"], ["b", "7", 10, "film"], ["b", "9", 20, "book"], ["a", "7", 5, "film"]]
        pq.write_table(
            pa.table(dict(zip(("user", "item", "time", "kind"), zip(*cells, strict=True), strict=True))), path
        )
    one, other = (read(tmp_path, p, item_attribute_columns=["kind"]) for p in (plain, path))
    assert one.folder != other.folder
    assert one.items_N.tolist() == other.items_N.tolist()
    assert one.times_N.tolist() == other.times_N.tolist()
    assert one.catalog.item_values["kind"].tolist() == other.catalog.item_values["kind"].tolist()


NOON = int(datetime(2024, 5, 1, 12, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("unit", "late", "early", "seconds"),
    [
        ("s", NOON, NOON - 1, [NOON - 1, NOON]),
        ("s", f"{NOON}.75", f"{NOON}.25", [NOON, NOON]),  # finer times still order events
        ("ms", NOON * 1000 + 2, NOON * 1000 + 1, [NOON, NOON]),
        ("us", NOON * 10**6 + 2, NOON * 10**6 + 1, [NOON, NOON]),
        ("ns", NOON * 10**9 + 2, NOON * 10**9 + 1, [NOON, NOON]),
        ("iso", "2024-05-01T12:00:01", "2024-05-01 12:00:00", [NOON, NOON + 1]),
        ("iso", "2024-05-01T12:00:01Z", "2024-05-01T14:00:00+02:00", [NOON, NOON + 1]),
    ],
)
def test_times_are_stored_in_seconds(tmp_path: Path, unit: str, late: Any, early: Any, seconds: list[int]) -> None:
    last = str(late).replace("2024", "2030") if unit == "iso" else 2 * int(float(late))
    path = write(tmp_path, "user,item,time", f"1,11,{late}", f"1,22,{early}", f"1,33,{last}")
    log = read(tmp_path, path, time_unit=unit)
    assert log.items_N.tolist() == [2, 1, 3]
    assert log.times_N[:2].tolist() == seconds


def test_a_time_column_of_parquet_may_be_of_type_timestamp(tmp_path: Path) -> None:
    times = [datetime(2024, 5, 1, 12, second, tzinfo=UTC) for second in (2, 1, 3)]
    pq.write_table(pa.table({"user": [1, 1, 1], "item": [11, 22, 33], "time": times}), tmp_path / "log.parquet")
    log = read(tmp_path, tmp_path / "log.parquet")
    assert log.times_N.tolist() == [NOON + 60, NOON + 120, NOON + 180]
    assert log.items_N.tolist() == [2, 1, 3]


def test_without_times_the_file_is_in_order(tmp_path: Path) -> None:
    log = read(tmp_path, write(tmp_path, "user,item", "1,3", "1,1", "1,2"), time_column=None)
    assert log.items_N.tolist() == [3, 1, 2]
    assert log.times_N is None


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"item_column": "itemm"}, r"log\.csv has no column 'itemm'; did you mean 'item'\? \(has: user, item, time"),
        ({"item_column": 7}, r"log\.csv has 7 columns, none at position 7"),
        ({"time_column": "kind"}, r"kind is 'book' in line 2, not a finite number"),
        ({"time_column": "kind", "time_unit": "iso"}, r"kind is 'book' in line 2, not an ISO time"),
        ({"rating_column": "town"}, r"town: empty 1\), the first is line 5; .*dataset\.missing=drop"),
        (
            {"user_column": "town"},
            r"4 rows, 1 without one of town, item, time \(town: empty 1\), the first is line 5;",
        ),
        (
            {"rating_column": "stars", "min_rating": 9.0},
            r"no events are left after dataset\.min_rating=9\.0 \(4 before",
        ),
        ({"item_core": 4}, r"no events are left after dataset\.user_core=0 item_core=4"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SeqrecError, match=complaint):
        read(tmp_path, write(tmp_path, HEADER, *ROWS), **values)
    assert [path.name for path in (tmp_path / "data").iterdir() if path.suffix != ".lock"] == ["raw-hashes.json"]


def test_a_line_with_too_few_fields_is_named(tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match=r"log\.csv: line 4 has 2 fields, not 3: '1,4'"):
        read(tmp_path, write(tmp_path, "user,item,time", "1,2,3", "1,3,4", "1,4"))


def test_only_a_header_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match=r"log.csv holds no events, only names of columns"):
        read(tmp_path, write(tmp_path, HEADER))


def test_torn_files_are_refused(tmp_path: Path) -> None:
    packed = gzip.compress("\n".join([HEADER, *(f"u,{k},{k},1,a,b,c" for k in range(5000))]).encode())
    (tmp_path / "log.csv.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "log.parquet").write_bytes(b"PAR1 but torn")
    for name in ("log.csv.gz", "log.parquet"):
        with pytest.raises(SeqrecError, match=f"{name} cannot be read"):
            read(tmp_path, tmp_path / name)


def test_names_for_columns_and_a_header_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match=r"dataset\.header=false"):
        dataset("csv", columns=["user", "item"], header=True)
