"""A log turned around: an item is the sequence of its users, by a file whose every row is worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_helpers import build, dataset

import seqrec_cli
from seqrec_cli.api.requests import names_in
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.large import choose
from seqrec_cli.data.large.room import Room
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.turned import TOLD
from seqrec_cli.data.vocabulary import vocabulary

# user,item,time,rating,kind (of the item),plan (of the user); users a and b meet x in one second, a first in the file.
ROWS = """user,item,time,rating,kind,plan
b,y,10,5,film,gold
a,x,30,4,book,free
c,x,20,3,book,gold
b,x,30,5,book,gold
a,y,40,2,film,free
d,x,50,5,book,free
c,y,60,5,film,gold
d,z,70,1,song,free
"""
COLUMNS = {
    "rating_column": "rating",
    "item_attribute_columns": ["kind"],
    "user_attribute_columns": ["plan"],
}


def written(folder: Path, text: str = ROWS) -> Path:
    path = folder / "log.csv"
    path.write_text(text, encoding="utf-8")
    return path


def turned(folder: Path, **changes: Any) -> Any:
    cfg = dataset("csv", archive=written(folder), **COLUMNS, predict="users", **changes)
    return build(cfg, folder / "data", "leave_last", click_negatives=1)


def histories(log: Any) -> dict[str, list[str]]:
    """Raw ids: of each row, what it holds in order."""
    rows, tokens = vocabulary(log.folder, "users"), vocabulary(log.folder, "items")
    bounds = zip(log.offsets_U1[:-1], log.offsets_U1[1:], strict=True)
    return {rows[n]: [tokens[i - 1] for i in log.items_N[a:b]] for n, (a, b) in enumerate(bounds)}


def test_each_item_is_a_row_of_its_users_in_time(tmp_path: Path) -> None:
    log = turned(tmp_path)
    assert histories(log) == {"x": ["c", "a", "b", "d"], "y": ["b", "a", "c"], "z": ["d"]}
    assert log.times_N.tolist() == [20, 30, 30, 50, 10, 40, 60, 70]
    assert log.ratings_N.tolist() == [3, 4, 5, 5, 5, 2, 5, 1]
    assert [each.name for each in log.catalog.item_attributes] == ["plan"]  # which is of users, who are predicted
    assert [each.name for each in log.catalog.user_attributes] == ["kind"]
    plans = log.manifest["item_attribute_values"]["plan"]
    assert [plans[code - 1] for code in log.catalog.item_values["plan"][1:, 0]] == ["free", "gold", "gold", "free"]
    tested = [log.items_N[position] for position in log.view.test.positions_T]
    assert [vocabulary(log.folder, "items")[item - 1] for item in tested] == ["d", "c"]  # x and y: their last users


def test_filters_are_of_the_log_as_it_is_and_are_told_so(tmp_path: Path) -> None:
    log = turned(tmp_path, item_core=2, min_rating=2)
    assert histories(log) == {"x": ["c", "a", "b", "d"], "y": ["b", "a", "c"]}
    counts = [[row[key] for key in ("filter", "events", "users", "items")] for row in log.manifest["filters"]]
    assert counts[0] == ["raw", 8, 4, 3]
    assert counts[-1] == ["user_core=0 item_core=2", 7, 4, 2]


def test_it_is_told_each_time_and_a_log_that_is_not_turned_keeps_its_fingerprint(tmp_path: Path) -> None:
    said: list[str] = []
    cfg = dataset("csv", archive=written(tmp_path), **COLUMNS, predict="users")
    log = [prepare(cfg, tmp_path / "data", said.append) for _ in range(2)][1]
    assert said.count(TOLD) == 2
    plain = build(cfg.model_copy(update={"predict": "items"}), tmp_path / "data")
    assert "predict" not in plain.manifest["settings"]
    assert plain.fingerprint != log.fingerprint
    assert np.array_equal(np.diff(plain.offsets_U1), [2, 2, 2, 2])
    assert (names_in(cfg).user, names_in(cfg).item) == ("item", "user")  # columns of frames, of rows and what they hold


def test_weights_and_titles(tmp_path: Path) -> None:
    said: list[str] = []
    cfg = dataset(
        "csv", archive=written(tmp_path), predict="users", weight_column="rating", title_column="kind", min_rating=None
    )
    log = prepare(cfg, tmp_path / "data", said.append)
    assert log.weights_N.tolist() == [3, 4, 5, 5, 5, 2, 5, 1]
    assert "titles of items are left out: rows have none" in said


def test_what_filters_leave_keeps_its_ratings_weights_and_order(tmp_path: Path) -> None:
    """A row that is left out comes before others in the file, so that nothing stands where it stood."""
    own = {**COLUMNS, "predict": "users", "weight_column": "rating"}
    log = build(dataset("csv", archive=written(tmp_path), **own, min_rating=3), tmp_path / "data")
    assert histories(log) == {"x": ["c", "a", "b", "d"], "y": ["b", "c"]}
    assert log.ratings_N.tolist() == log.weights_N.tolist() == [3, 4, 5, 5, 5, 5]
    first, *lines = ROWS.splitlines()
    path = written(tmp_path, "\n".join([first, *reversed(lines)]) + "\n")  # user b before a, who is of a lower rating
    cfg = dataset("csv", archive=path, predict="users", order_columns=["rating"], min_rating=None)
    assert histories(build(cfg, tmp_path / "data"))["x"] == ["c", "a", "b", "d"]


def test_a_log_too_large_for_memory_is_turned_in_memory_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB would preprocess it as it is, unasked."""
    said: list[str] = []
    monkeypatch.setattr(choose, "_files", lambda cfg, path: (1, Room.of(cfg)))
    log = prepare(dataset("csv", archive=written(tmp_path), predict="users"), tmp_path / "data", said.append)
    assert histories(log)["x"] == ["c", "a", "b", "d"]
    assert any("does not turn a log around (dataset.predict=users)" in line for line in said)


def test_a_simulation_s_law_is_of_items_and_is_not_told_of_a_turned_log(tmp_path: Path) -> None:
    """Else `oracle` would name the next user by the law of the next item."""
    sizes = {"users": 40, "items": 30, "categories": 5, "successors": 4, "max_events": 12}
    plain, other = (
        build(dataset("synthetic", **sizes, predict=predict), tmp_path / "data") for predict in ("items", "users")
    )
    assert plain.manifest["process"] is not None
    assert other.manifest["process"] is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"session_column": "kind"}, "dataset.session_column parts a user's history"),
        ({"owner_column": "plan"}, "dataset.owner_column is of items"),
        ({"split_column": "kind"}, "dataset.split_column parts a user's history"),
        ({"context_columns": ["kind"]}, "dataset.context_columns are of a user's request"),
        ({"item_text": "tfidf"}, "dataset.item_text is of items"),
        ({"item_vectors": "file.npz"}, "dataset.item_vectors are of items"),
        ({"label_column": "rating"}, "requests show items to users"),
        ({"time_column": None}, "no times that all users share"),
        ({"time_unit": "order"}, "no times that all users share"),
        ({"engine": "duckdb"}, r"dataset.engine=duckdb does not turn a log around .*; set dataset.engine=memory"),
        ({"min_rating": 5, "user_core": 3}, "no events are left"),
    ],
)
def test_what_is_of_one_side_alone_is_refused_in_a_line(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises((SeqrecError, ValueError), match=says) as refusal:
        turned(tmp_path, **changes)
    if isinstance(refusal.value, SeqrecError):
        assert "\n" not in str(refusal.value)


def test_a_log_of_one_user_is_refused(tmp_path: Path) -> None:
    one = "user,item,time\n" + "".join(f"a,{item},{item}\n" for item in range(5))
    cfg = dataset("csv", archive=written(tmp_path, one), predict="users")
    with pytest.raises(SeqrecError, match="1 user is left, and ranking needs two or more"):
        build(cfg, tmp_path / "data")


def test_a_run_says_whom_to_show_an_item(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On every item user n + 1 comes after user n: Markov learns it, and those who had the item are not named."""
    rows = [f"u{(item + nth) % 9},i{item},{100 * nth + item}" for item in range(9) for nth in range(6)]
    path = written(tmp_path, "\n".join(["user,item,time", *rows]) + "\n")
    run, data = tmp_path / "run", f"data_dir={tmp_path / 'data'}"
    words = ["dataset=csv", f"dataset.archive={path}", "dataset.time_unit=s", "protocol.click_negatives=1", data]
    words += ["model=markov", "evaluation.baselines=false", f"run_dir={run}"]
    found = seqrec_cli.run("train", [*words, "dataset.predict=users"])
    assert found["test"]["hr@5"] == 1.0
    answer = seqrec_cli.run("recommend", [f"ckpt={run}", "user=i2", "top=3"])
    assert answer["items"][0] == "u8"  # i2 was shown to u2 ... u7
    assert set(answer["items"]) == {"u8", "u0", "u1"}
    assert TOLD in capsys.readouterr().out
