"""A sequence a row: lists of Parquet and JSON, and text joined by a separator, are the log of a row an event."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_helpers import build, dataset

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.vocabulary import vocabulary

START = 1_700_000_000
USERS = ["ann", "bob"]
ITEMS = [[5, 3, 8], [9, 5, 1, 4]]
TIMES = [[START + 60 * k for k in range(3)], [START + 60 * k for k in (3, 2, 1, 0)]]
TOWNS = ["Oslo", "Rome"]


def read(tmp_path: Path, path: Path, **values: Any) -> PackedLog:
    return build(dataset("csv", archive=path, **values), tmp_path / "data")


def events(log: PackedLog) -> list[tuple[int, list[Any], list[int]]]:
    ids = vocabulary(log.folder, "items")[log.items_N - 1]  # type: ignore[arg-type]
    bounds = log.offsets_U1.tolist()
    times = log.times_N if log.times_N is not None else log.items_N * 0
    return [(row, ids[a:b].tolist(), times[a:b].tolist()) for row, (a, b) in enumerate(pairwise(bounds))]


TIMED = [(0, [5, 3, 8], TIMES[0]), (1, [4, 1, 5, 9], TIMES[1][::-1])]


def parquet(path: Path, **more: Any) -> Path:
    pq.write_table(pa.table({"user": USERS, "item": ITEMS, "time": TIMES, "town": TOWNS} | more), path)
    return path


def test_lists_of_parquet_are_events(tmp_path: Path) -> None:
    log = read(tmp_path, parquet(tmp_path / "log.parquet"), user_attribute_columns=["town"])
    assert events(log) == TIMED
    assert log.manifest["user_attribute_values"] == {"town": TOWNS}
    assert "a sequence a row: 2 rows with 7 events" in log.manifest["notes"]


def test_what_is_no_list_is_said_of_each_event(tmp_path: Path) -> None:
    path = parquet(tmp_path / "log.parquet", device=[["tv", None, "tv"], ["web"] * 4], stars=[1.0, 5.0])
    log = read(tmp_path, path, context_columns=["device", "town"], rating_column="stars")
    assert log.manifest["context_values"] == {"device": ["tv", "web"], "town": TOWNS}
    assert log.context_NF.tolist() == [[1, 1], [0, 1], [1, 1], *[[2, 2]] * 4]  # type: ignore[union-attr]
    assert log.ratings_N.tolist() == [1.0] * 3 + [5.0] * 4  # type: ignore[union-attr]


def test_lists_of_json_are_events(tmp_path: Path) -> None:
    rows = [{"user": u, "item": i, "time": t} for u, i, t in zip(USERS, ITEMS, TIMES, strict=True)]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert events(read(tmp_path, path)) == TIMED


@pytest.mark.parametrize(
    ("separator", "left", "right", "quote"),
    [(" ", "", "", ""), ("|", "", "", ""), (",", "[", "]", "'"), (", ", "(", ")", ""), ("\t", "", "", "")],
)
def test_joined_text_is_split(tmp_path: Path, separator: str, left: str, right: str, quote: str) -> None:
    def joined(values: list[int], mark: str = "") -> str:
        return f'"{left}{separator.join(f"{mark}{value}{mark}" for value in values)}{right}"'

    path = tmp_path / "log.csv"
    rows = [f"{u};{joined(i, quote)};{joined(t)}" for u, i, t in zip(USERS, ITEMS, TIMES, strict=True)]
    path.write_text("\n".join(["user;item;time", *rows]) + "\n", encoding="utf-8")
    assert events(read(tmp_path, path, sequence_separator=separator, delimiter=";")) == TIMED


def test_one_time_a_row_is_that_of_all_its_events(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,time\n7,a b c,2024-05-01 12:00\n7,b d,2024-05-02 12:00\n8,a b c d,2024-05-02 12:00\n")
    log = read(tmp_path, path, sequence_separator=" ", time_unit="iso")
    assert events(log)[0][1] == ["a", "b", "c", "b", "d"]
    assert len(set(events(log)[0][2])) == 2


def test_empty_lists_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"user": [1, 2, 3, 4], "item": pa.array([[1, 2, 3], [], None, [3, 2]])}), path)
    log = read(tmp_path, path, time_column=None)
    assert log.num_users == 2
    assert log.manifest["notes"] == ["a sequence a row: 4 rows with 5 events; 2 are empty and hold no event"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"time": [[1, 2], [1, 2, 3, 4]]},
            "row 1 has 3 values of item and 2 of time; lists of one row are of one length",
        ),
        ({"item": [[5, 3, 8], [9, None, 1, 4]]}, "row 2, element 2"),
        ({"item": [5, 3]}, "time holds lists and item does not"),
    ],
)
def test_lists_that_do_not_fit_are_named(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SeqrecError, match=says) as error:
        read(tmp_path, parquet(tmp_path / "log.parquet", **changes))
    assert "\n" not in str(error.value)


def test_text_that_looks_like_a_list_is_said(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item\n1,5 19 28 3\n1,7 8 9\n1,7 8 10 2\n2,1 2 3\n")
    log = read(tmp_path, path, time_column=None)
    assert "item is '5 19 28 3' and the like" in log.manifest["notes"][-1]
    assert "dataset.sequence_separator=' '" in log.manifest["notes"][-1]


def test_attributes_may_be_lists_too(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    rows = {"user": [1] * 4, "item": [1, 2, 3, 1], "genre": [["a", "b"], ["b"], [], ["a", "b"]]}
    pq.write_table(pa.table(rows), path)
    log = read(tmp_path, path, time_column=None, item_attribute_columns=["genre"], duplicates="keep")
    assert log.catalog.item_values["genre"].tolist() == [[0, 0], [1, 2], [2, 0], [0, 0]]


def test_the_small_case(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data.parent / "cases" / "lists.parquet"
    if not path.exists():
        pytest.skip("the small cases are not here")
    log = read(tmp_path, path, time_column=None)
    assert (log.num_users, len(log.items_N)) == (40, 320)
