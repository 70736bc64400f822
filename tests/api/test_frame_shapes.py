"""Frames in other shapes than a row an event: lists, frames of items and users, train, valid and test."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import seqrec_cli
from seqrec_cli import SeqrecError
from seqrec_cli.data.interactions import PackedLog

LEAVE_LAST = {"name": "leave_last", "click_negatives": 2}
GIVEN = {"name": "given", "click_negatives": 2}


def log() -> pd.DataFrame:
    """Twelve users of six distinct items each, an hour apart, in the order of time."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "user": np.repeat([f"u{user}" for user in range(12)], 6),
            "item": np.concatenate([rng.permutation(20)[:6] for _ in range(12)]),
            "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(72), unit="h"),
        }
    )


def films() -> pd.DataFrame:
    return pd.DataFrame(
        {"id": range(25), "name": [f"film {k}" for k in range(25)], "tags": [["a", f"t{k % 3}"] for k in range(25)]}
    )


def made(frame: Any, tmp_path: Path, **told: Any) -> "seqrec_cli.Dataset":
    return seqrec_cli.dataset(frame, **({"time": "time", "protocol": LEAVE_LAST, "data_dir": tmp_path} | told))


def packed(tmp_path: Path, name: str) -> PackedLog:
    return PackedLog.open(next(tmp_path.glob(f"{name}-*")))


@pytest.mark.parametrize("library", ["pandas", "polars", "arrow"])
def test_lists_are_events(library: str, tmp_path: Path) -> None:
    frame: Any = log().groupby("user").agg(list).reset_index()
    if library == "polars":
        frame = pytest.importorskip("polars", reason="the development extras bring polars").from_pandas(frame)
    elif library == "arrow":
        frame = pa.Table.from_pandas(frame)
    data = made(frame, tmp_path, name="lists")
    assert "a sequence a row: 12 rows with 72 events" in data.notes
    made(log(), tmp_path, name="rows")
    one, other = packed(tmp_path, "lists"), packed(tmp_path, "rows")
    assert one.items_N.tolist() == other.items_N.tolist()
    assert one.times_N.tolist() == other.times_N.tolist()  # type: ignore[union-attr]


def test_frames_of_items_and_users_describe_them(tmp_path: Path) -> None:
    people = pd.DataFrame({"user": [f"u{k}" for k in range(11)], "town": ["Rome", "Oslo"] * 5 + ["Rome"]})
    of_items = {"items": films(), "item_id": "id", "item_attributes": ["tags"], "title": "name"}
    data = made(log(), tmp_path, **of_items, users=people, user_attributes=["town"])
    found = packed(tmp_path, "frame")
    assert found.manifest["item_attribute_values"] == {"tags": ["a", "t0", "t1", "t2"]}
    assert found.manifest["user_attribute_values"] == {"town": ["Oslo", "Rome"]}
    assert data.notes[1:] == (
        f"{Path(data.settings['item_file']).name} describes 20 of 20 items; 5 rows are of items the log lacks",
        f"{Path(data.settings['user_file']).name} describes 11 of 12 users; 1 have no row",
    )
    small = {"model": "popular", "trainer.max_epochs": 1}
    run = seqrec_cli.train(small, dataset=data, run_dir=tmp_path / "run", verbose=False)
    shown = run.recommend(histories=[[1, 2]], top=1)
    assert shown["title"].tolist() == [f"film {shown['item'][0]}"]
    assert seqrec_cli.load(tmp_path / "run").evaluate("val") == run.metrics["val"]


@pytest.mark.parametrize("form", ["frames", "keywords", "column"])
def test_a_split_is_given_by_frames_or_a_column(form: str, tmp_path: Path) -> None:
    frame = log()
    left = 5 - frame.groupby("user").cumcount()
    parts = {"train": frame[left > 1], "valid": frame[left == 1], "test": frame[left == 0]}
    if form == "column":
        words = np.select([left == 0, left == 1], ["test", "val"], "train")
        data = made(frame.assign(part=words), tmp_path, split="part", protocol=GIVEN)
    elif form == "keywords":
        data = made(None, tmp_path, **parts, protocol=GIVEN)
    else:
        data = made(parts["train"], tmp_path, valid=parts["valid"], test=parts["test"], protocol=GIVEN)
    assert any("train 48, valid 12, test 12 events" in note for note in data.notes)
    splits_N = packed(tmp_path, "frame").splits_N
    assert splits_N is not None
    assert splits_N.reshape(12, 6).tolist() == [[0, 0, 0, 0, 1, 2]] * 12


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"items": films(), "item_attributes": ["tags"]}, r"^items has no column 'item' \(have: id, name, tags\)"),
        ({"items": films(), "item_id": "id"}, "^dataset.item_file: nothing of it is read"),
        (
            {"items": films().assign(id="x"), "item_id": "id", "title": "name"},
            "^items describes none of the log's items",
        ),
        ({"test": log()[:0]}, "^test has no rows"),
        ({"test": log().assign(item="x")}, "^test: column item is of type string, and that of train int64"),
        ({"test": log(), "split": "part"}, "split=part and test both say what is held out"),
        ({"train": log()}, "give the log as the first argument or as train"),
        ({"split": "user"}, "columns of their own"),
    ],
)
def test_frames_that_do_not_fit_are_refused_and_leave_nothing(told: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match=says):
        made(log(), tmp_path, **told)
    assert list(tmp_path.rglob("*.parquet")) == []


def test_a_log_is_needed(tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match="there is no log"):
        made(None, tmp_path, test=log())
