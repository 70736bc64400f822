"""A log in several files: folders, globs, zip archives, JSON lines; their order, and what is refused."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_helpers import build, dataset

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.vocabulary import vocabulary

ROWS = [(user, item) for user in (1, 2) for item in (5, 3, 8, 1, 9, 4)]
UNTIMED: dict[str, Any] = {"time_column": None}


def text(rows: list[tuple[int, int]], header: str | None = "user,item") -> str:
    return "\n".join([*([] if header is None else [header]), *(f"{user},{item}" for user, item in rows)]) + "\n"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(tmp_path: Path, archive: Path | str, **values: Any) -> PackedLog:
    return build(dataset("csv", archive=str(archive), **(UNTIMED | values)), tmp_path / "data")


def items(log: PackedLog) -> list[int]:
    """Of all users, one after another."""
    return vocabulary(log.folder, "items")[log.items_N - 1].tolist()  # type: ignore[arg-type,no-any-return]


def refusal(tmp_path: Path, archive: Path | str, **values: Any) -> str:
    with pytest.raises(SeqrecError) as error:
        read(tmp_path, archive, **values)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def spark(tmp_path: Path) -> Path:
    """A row a part, twelve of them, as Spark leaves them."""
    folder = tmp_path / "spark"
    for nth, row in enumerate(ROWS):
        write(folder / f"part-{nth}-9f.csv", text([row]))
        write(folder / f".part-{nth}-9f.csv.crc", b"crc")
    write(folder / "_SUCCESS", b"")
    write(folder / "part-99-9f.csv", b"")
    return folder


def test_the_parts_of_a_folder_are_one_log_in_natural_order(tmp_path: Path, spark: Path) -> None:
    log = read(tmp_path, spark)
    assert items(log) == [item for _, item in ROWS]  # part-2 before part-10
    assert log.manifest["notes"][-2:] == [
        "empty files: 1 (part-99-9f.csv)",
        "spark: 13 files (part-0-9f.csv, ..., part-99-9f.csv); skipped 13: *.crc, _SUCCESS",
    ]


def test_names_and_order_count_in_the_fingerprint(tmp_path: Path, spark: Path) -> None:
    first = read(tmp_path, spark)
    assert read(tmp_path, f"{spark}/part-*.csv").fingerprint == first.fingerprint
    (spark / "part-0-9f.csv").rename(spark / "part-50-9f.csv")
    moved = read(tmp_path, spark)
    assert moved.fingerprint != first.fingerprint
    assert items(moved) == [3, 8, 1, 9, 4, 5, *[item for _, item in ROWS[6:]]]


def test_partitions_are_columns(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    for day, rows in (("2024-05-01", ROWS[:6]), ("2024-05-02", ROWS[6:])):
        write(folder / f"day={day}" / "part-0.csv", text(rows))
    log = read(tmp_path, folder, context_columns=["day"])
    assert log.manifest["context_values"] == {"day": ["2024-05-01", "2024-05-02"]}
    assert log.context_NF[:, 0].tolist() == [1] * 6 + [2] * 6  # type: ignore[index]
    by_time = read(tmp_path, folder, time_column="day", time_unit="iso", name="timed")
    assert len(set(by_time.times_N.tolist())) == 2  # type: ignore[union-attr]


def test_other_folders_need_a_glob(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    for name, rows in (("a", ROWS[:6]), ("b", ROWS[6:])):
        write(folder / name / "log.csv", text(rows))
    said = refusal(tmp_path, folder)
    assert "holds a folder a, and folders in it are read only where they are called KEY=VALUE" in said
    assert items(read(tmp_path, f"{folder}/**/*.csv")) == [item for _, item in ROWS]


@pytest.mark.parametrize(
    ("one", "other", "values", "says"),
    [
        (text(ROWS[:6]), text(ROWS[6:], "uid,item"), {}, "b.csv has no column 'user'"),
        (text(ROWS[:6]), text(ROWS[6:], None), {}, "b.csv: the first line looks like data"),
        (
            text(ROWS[:6]),
            text(ROWS[6:], "item,user"),
            {"user_column": 0, "item_column": 1, "header": True},
            "a.csv has the columns user, item and b.csv has item, user; with columns given by position",
        ),
    ],
)
def test_parts_of_other_columns_are_refused_with_both_named(
    tmp_path: Path, one: str, other: str, values: dict[str, Any], says: str
) -> None:
    write(tmp_path / "log/a.csv", one)
    write(tmp_path / "log/b.csv", other)
    said = refusal(tmp_path, tmp_path / "log", **values)
    assert says in said
    assert "a.csv has " in said


def test_columns_are_found_by_name_wherever_they_stand(tmp_path: Path) -> None:
    write(tmp_path / "log/a.csv", text(ROWS[:6]))
    write(tmp_path / "log/b.csv", "more,item,user\n" + "".join(f"x,{item},{user}\n" for user, item in ROWS[6:]))
    assert items(read(tmp_path, tmp_path / "log")) == [item for _, item in ROWS]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "holds no file; give a file, or a folder or glob"),
        ({"x.png": b"x", ".hidden.csv": b"user,item"}, "holds no readable part; skipped 2: .hidden.csv, x.png"),
        (
            {"a.csv": text(ROWS).encode(), "b.jsonl": b"{}"},
            "files of several kinds, a.csv and b.jsonl; name those of one",
        ),
        ({"a.csv": b"", "b.csv": b""}, "log holds empty files alone"),
    ],
)
def test_folders_without_a_table_say_so(tmp_path: Path, files: dict[str, bytes], says: str) -> None:
    (tmp_path / "log").mkdir()
    for name, content in files.items():
        write(tmp_path / "log" / name, content)
    assert says in refusal(tmp_path, tmp_path / "log")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    assert refusal(tmp_path, tmp_path / "log.csv").endswith("log.csv: there is no such file")
    assert "no file's name fits; is it quoted" in refusal(tmp_path, tmp_path / "*.csv")


# Zip archives


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_a_zip_archive_holds_one_table_or_its_parts(tmp_path: Path) -> None:
    one = zipped(tmp_path / "one.zip", {"log/all.csv": text(ROWS), "__MACOSX/log/._all.csv": "x"})
    parts = zipped(tmp_path / "parts.zip", {f"part-{n}.csv": text([row]) for n, row in enumerate(ROWS)})
    assert items(read(tmp_path, one)) == items(read(tmp_path, parts)) == [item for _, item in ROWS]


def test_a_table_of_a_zip_archive_is_named_below_it(tmp_path: Path) -> None:
    path = zipped(tmp_path / "log.zip", {"ml/films.csv": "film,title\n1,A\n", "ml/events.csv": text(ROWS)})
    said = refusal(tmp_path, path)
    assert "log.zip/films.csv has no column" in said or "events.csv has user, item" in said
    log = read(tmp_path, path / "events.csv")
    assert items(log) == items(read(tmp_path, path / "ml" / "ev*.csv")) == [item for _, item in ROWS]
    assert "holds no nix.csv (has: ml/films.csv, ml/events.csv)" in refusal(tmp_path, path / "nix.csv")


@pytest.mark.parametrize("kind", ["half a zip", "a wrong byte", "half a gzip", "half a gzip of lines"])
def test_torn_archives_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    if "gzip" in kind:
        whole = gzip.compress(text(ROWS * 200).encode() if kind == "half a gzip" else b'{"user": 1, "item": 2}\n' * 900)
        path = write(tmp_path / ("log.jsonl.gz" if "lines" in kind else "log.csv.gz"), whole[: len(whole) // 2])
    else:
        whole = bytearray(zipped(tmp_path / "whole.zip", {"a.csv": text(ROWS), "b.csv": text(ROWS)}).read_bytes())
        whole[60] ^= 0xFF
        path = write(tmp_path / "log.zip", bytes(whole[: len(whole) // 2] if kind == "half a zip" else whole))
    said = refusal(tmp_path, path)
    assert path.name in said
    assert "torn" in said or "ends early" in said or "cannot be read" in said


# JSON lines


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


OBJECTS = [{"user": user, "item": f"i{item}", "device": None, "more": {"x": 1}} for user, item in ROWS]


@pytest.mark.parametrize("name", ["log.jsonl", "log.ndjson", "log.json", "log.jsonl.gz", "array.json", "parts"])
def test_json_lines_are_read_by_the_same_settings(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "parts":
        write(path / "part-0.json", lines(OBJECTS[:5]))
        write(path / "part-1.json", lines(OBJECTS[5:]))
    elif name == "array.json":
        write(path, json.dumps(OBJECTS, indent=1))
    else:
        content = lines(OBJECTS).encode()
        write(path, gzip.compress(content) if name.endswith("gz") else content)
    log = read(tmp_path, path)
    assert items(log) == [f"i{item}" for _, item in ROWS]
    assert vocabulary(log.folder, "users").tolist() == [1, 2]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "values", "says"),
    [
        ([{"user": 1, "item": 2}, {"user": "a", "item": 2}], {}, "user is a whole number in line 1 and text in line 2"),
        ([{"user": 1, "item": {"id": 2}}], {}, "item in line 1 is an object; fields are numbers, text or lists"),
        ([{"user": 1, "item": 2**70}], {}, "beyond 64 bits; write it as text"),
        ([{"user": 1, "itm": 2}], {}, "has no column 'item'; did you mean 'itm'"),
        ([{"user": 1, "item": 2}], {"item_column": 1}, "fields of JSON have no position 1; give names"),
        ([[1, 2]], {}, "line 1 is no JSON object"),
    ],
)
def test_json_that_is_no_table_is_refused(tmp_path: Path, rows: list[Any], values: dict[str, Any], says: str) -> None:
    path = write(tmp_path / "log.jsonl", lines(rows))
    assert says in refusal(tmp_path, path, **values)


def test_types_that_change_after_the_first_lines_are_found(tmp_path: Path) -> None:
    rows = [{"user": k // 3, "item": k % 7, "time": 1_700_000_000 + k} for k in range(1100)]
    rows[1050]["time"] += 0.5  # type: ignore[operator]
    log = read(tmp_path, write(tmp_path / "log.jsonl", lines(rows)), time_column="time")
    assert len(log.items_N) == 1100


def test_parquet_parts_are_one_log(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    for nth, rows in enumerate((ROWS[:6], ROWS[6:])):
        columns = list(zip(*rows, strict=True))
        pq.write_table(pa.table({"user": columns[0], "item": columns[1]}), folder / f"part-{nth}.snappy.parquet")
    log = read(tmp_path, folder)
    assert items(log) == [item for _, item in ROWS]
    (folder / "part-0.snappy.parquet").rename(folder / "whole")
    assert items(read(tmp_path, folder / "whole", name="nameless")) == [item for _, item in ROWS[:6]]


def test_blank_lines_between_json_lines_are_counted(tmp_path: Path) -> None:
    lines = ['{"user": 1, "item": 5}', "", '{"user": 1, "item": 7}', " ", '{"user": null, "item": 8}']
    assert "the first is line 5" in refusal(tmp_path, write(tmp_path / "log.jsonl", "\n".join(lines)))
