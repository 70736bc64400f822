"""Requests come out of a file the same whatever its kind, and what is malformed is named."""

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.request_files import RequestFile, kind_of

ROWS: list[dict[str, Any]] = [
    {"user": 3, "history": None, "times": None, "asked_at": None, "device": None},
    {"user": None, "history": [5, 9], "times": [10, 20], "asked_at": 30, "device": "tv"},
    {"user": 7, "history": [], "times": None, "asked_at": None, "device": None},
    {"user": 8, "history": [1], "times": [4], "asked_at": None, "device": "phone"},
    {"user": None, "history": [2, 3, 4], "times": None, "asked_at": None, "device": None},
]
EXPECTED = [
    {
        **row,
        "user": None if row["user"] is None else str(row["user"]),
        "history": None if row["history"] is None else [str(item) for item in row["history"]],
    }
    for row in ROWS
]


def csv_of(separator: str = " ", delimiter: str = ",") -> str:
    """An empty history is `""`, and nothing is none."""

    def text(value: Any) -> str:
        if isinstance(value, list):
            return separator.join(map(str, value)) or '""'
        return "" if value is None else str(value)

    return "\n".join(delimiter.join(map(text, row)) for row in ([*ROWS[0]], *(row.values() for row in ROWS))) + "\n"


def written(folder: Path, name: str) -> Path:
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif ".csv" in name or ".tsv" in name:
        data = csv_of(" ", "\t" if ".tsv" in name else ",").encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    else:
        lines = "\n".join(json.dumps({key: value for key, value in row.items() if value is not None}) for row in ROWS)
        data = (lines + "\n\n").encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def rows_of(path: Path, rows: int = 2, separator: str = " ") -> list[list[dict[str, Any]]]:
    return [table.to_pylist() for table in RequestFile.open(path, ["device"], separator).chunks(rows)]


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.csv.gz", "a.tsv", "a.jsonl", "a.ndjson", "a.jsonl.gz"])
def test_kinds_of_files_say_the_same(tmp_path: Path, name: str) -> None:
    chunks = rows_of(written(tmp_path, name))
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    assert [row for chunk in chunks for row in chunk] == EXPECTED


def test_rows_are_parted_alike_however_the_file_is(tmp_path: Path) -> None:
    table = pa.table({"user": list(range(1000))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    for rows in (1, 64, 999, 1000, 5000):
        chunks = rows_of(tmp_path / "a.parquet", rows)
        assert {len(chunk) for chunk in chunks[:-1]} <= {rows}
        assert [int(row["user"]) for chunk in chunks for row in chunk] == list(range(1000))


def test_text_is_parted_by_the_separator(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_of("|"), encoding="utf-8")
    assert [row["history"] for chunk in rows_of(tmp_path / "a.csv", separator="|") for row in chunk] == [
        row["history"] for row in EXPECTED
    ]
    (tmp_path / "b.csv").write_text('history\n"[1, \'b\', 007]"\n""\n 4  5 \n', encoding="utf-8")
    assert [row["history"] for chunk in rows_of(tmp_path / "b.csv") for row in chunk] == [
        ["1", "b", "007"],
        [],
        ["4", "5"],
    ]


def test_columns_have_any_type_of_ids_and_times(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "user": pd.Categorical(["a", None]),
            "history": [[1.0, 2.0], []],
            "times": [[pd.Timestamp(10, unit="s"), pd.Timestamp(20, unit="s")], []],
            "asked_at": [30.0, None],
        }
    )
    frame.to_parquet(tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == [
        [
            {"user": "a", "history": ["1", "2"], "times": [10, 20], "asked_at": 30},
            {"user": None, "history": [], "times": [], "asked_at": None},
        ]
    ]


def test_whole_numbers_that_pandas_wrote_as_fractions_are_whole(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": [3, None], "history": ["5 9", "7"], "asked_at": [30, None]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert "3.0,5 9,30.0" in (tmp_path / "a.csv").read_text(encoding="utf-8")
    assert rows_of(tmp_path / "a.csv") == [
        [{"user": "3", "history": ["5", "9"], "asked_at": 30}, {"user": None, "history": ["7"], "asked_at": None}]
    ]


def test_context_of_json_lines_may_be_an_object(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"history": [1], "context": {"device": "tv"}}\n', encoding="utf-8")
    assert rows_of(tmp_path / "a.jsonl")[0][0]["device"] == "tv"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "users\n3\n", r"no use for the column 'users'; did you mean 'user'\? \(have: user, history"),
        ("a.csv", "asked_at\n3\n", "it has neither a column 'user' nor 'history'"),
        ("a.csv", "user,user\n3,4\n", "several columns are called 'user'"),
        ("a.csv", "\n", "its first line is empty"),
        ("a.csv", "user,history\n3,1\n4,1,2\n", r"not a readable csv file \(.*Expected 2 columns, got 3"),
        ("a.csv", "history,times\n1 2,3 4\n1,x\n", "row 1: times: not whole seconds since 1970"),
        ("a.parquet", "no", "not a readable Parquet file"),
        ("a.jsonl", "", "it holds no rows"),
        ("a.jsonl", '{"user": 3}\n{"user": \n', "line 2 is no JSON"),
        ("a.jsonl", '{"user": 3}\n[3]\n', "line 2 is no JSON object"),
        ("a.jsonl", '{"user": 3}\n\n{"usr": 3}\n', r"line 3: no use for 'usr'; did you mean 'user'\?"),
        ("a.jsonl", '{"user": true}\n', "line 1: user is True; give text or a whole number"),
        ("a.jsonl", '{"history": [1, [2]]}\n', r"line 1: an element of history is \[2\]"),
        ("a.jsonl", '{"history": "1 2"}\n', "line 1: history is '1 2'; give a list"),
        ("a.jsonl", '{"history": [1], "times": [1.5]}\n', "row 0: times: not whole seconds since 1970"),
        ("a.jsonl", '{"history": [1], "context": 3}\n', "line 1: context is no object"),
    ],
)
def test_what_is_malformed_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(SeqrecError, match=f"input=.*{name}: {says}"):
        rows_of(tmp_path / name, rows=1)


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    for name in ("a.csv.gz", "a.jsonl.gz"):
        path = written(tmp_path, name)
        path.write_bytes(path.read_bytes()[:-12])
        with pytest.raises(SeqrecError, match=f"input=.*{name}: "):
            rows_of(path)


def test_kinds_are_told_by_their_suffix() -> None:
    assert [kind_of(Path(name), "output") for name in ("a.b.parquet", "A.CSV.GZ", "x.tsv")] == ["parquet", "csv", "csv"]
    for name in ("a", "a.txt", "a.parquet.gz", "a.gz", "csv"):
        with pytest.raises(SeqrecError, match=f"output={name}: let its name end in .parquet, .csv, .jsonl"):
            kind_of(Path(name), "output")
    with pytest.raises(SeqrecError, match=r"input=nowhere.csv: no such file"):
        RequestFile.open(Path("nowhere.csv"), [], " ")
