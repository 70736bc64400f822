"""`seqrec recommend input= output=`: what the file says, and what is refused."""

import gzip
import json
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest

import seqrec_cli
from seqrec_cli.commands import recommend_file
from seqrec_cli.config.errors import SeqrecError
from tests.commands.to_a_file import HISTORIES, USERS, answered, frame_of, trained


def one(run: str, *asked: str) -> dict[str, Any]:
    return seqrec_cli.run("recommend", [f"ckpt={run}", *asked])


# What it answers


def test_each_row_gets_what_it_gets_alone(run: str, requests: Path, tmp_path: Path, capsys: Any) -> None:
    told = answered(run, requests, tmp_path / "a.parquet", "top=4", "chunk=3", "batch=2")
    found = frame_of(tmp_path / "a.parquet")
    assert found.columns.tolist() == ["row", "user", "rank", "item", "score", "answered_by"]
    for nth, row in enumerate(HISTORIES):
        asked = [f"user={row['user']}"] if "user" in row else []
        asked += [f"history={json.dumps(row['history'])}"] if "history" in row else []
        alone = one(run, "top=4", *asked)
        mine = found[found["row"] == nth]
        assert mine["item"].tolist() == alone["items"]
        assert mine["score"].tolist() == pytest.approx(alone["scores"], rel=1e-4)
        assert set(mine["answered_by"]) == {alone["answered_by"]}
        assert mine["rank"].tolist() == [1, 2, 3, 4]
        assert mine["user"].fillna("none").unique().tolist() == [str(row.get("user", "none"))]
    assert (told["rows"], told["popularity"], told["profile"], told["unknown_items"]) == (7, 1, 1, 1)
    said = capsys.readouterr().out
    assert "7 requests, sound" in said
    assert "1 of whom nothing is known: recommended by popularity" in said
    assert "1 of whose history nothing is known: recommended by their attributes in the data" in said
    assert "1 of 11 events left out, for the data do not have their items" in said
    assert "users/s" in said
    assert not (tmp_path / "a.parquet.parts").exists()


def test_every_user_of_the_data(run: str, tmp_path: Path) -> None:
    answered(run, "users", tmp_path / "a.parquet", "top=2", "chunk=7")
    found = frame_of(tmp_path / "a.parquet")
    expected = seqrec_cli.load(run).recommend(top=2)
    assert found[["user", "rank", "item"]].values.tolist() == expected[["user", "rank", "item"]].values.tolist()
    assert found["row"].tolist() == [row for row in range(USERS) for _ in range(2)]
    assert found.dtypes.astype(str)[["row", "user", "rank", "item", "score"]].tolist() == [
        "int64",
        "int64",
        "int32",
        "int64",
        "float32",
    ]


def test_every_kind_of_output_says_the_same(run: str, requests: Path, tmp_path: Path) -> None:
    frames = []
    for name in ("a.parquet", "a.csv", "a.tsv", "a.csv.gz", "a.jsonl", "a.jsonl.gz"):
        path = tmp_path / name
        answered(run, requests, path, "top=3", "chunk=2")
        separated = pd.read_csv(path, sep="\t") if name == "a.tsv" else frame_of(path)
        frames.append(separated.astype({"score": "float32"}))
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frame, frames[0], check_dtype=False)
    first = json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()[6])
    assert {**first, "score": 0, "item": 0} == {
        "row": 2, "user": None, "rank": 1, "item": 0, "score": 0, "answered_by": "model",
    }  # fmt: skip
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()) == (tmp_path / "a.csv").read_bytes()


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        (["length=2"], {2}),
        (["allow=[1,2,3,4,5,20,21]"], None),
        (["deny=[1,2,20,21,30]"], None),
        (["where={category: [category-00, category-01, category-02, category-03]}"], None),
        (["mmr=0.1", "mmr_pool=20"], None),
        (["repeats=true"], None),
    ],
)
def test_settings_of_lists_hold_for_one_and_for_many(
    run: str, requests: Path, tmp_path: Path, settings: list[str], changed: set[int] | None
) -> None:
    def items(*given: str) -> list[list[Any]]:
        answered(run, requests, tmp_path / "a.parquet", "top=4", "replace=true", *given)
        found = frame_of(tmp_path / "a.parquet")
        return [found[found["row"] == row]["item"].tolist() for row in range(len(HISTORIES))]

    plain, with_them = items(), items(*settings)
    assert plain != with_them
    alone = one(run, "history=[1,2,3,4,5,6,7]", "top=4", *settings)["items"]
    assert with_them[2] == alone != plain[2]
    assert with_them[0] == one(run, "user=3", "top=4", *settings)["items"]
    assert with_them[3] == one(run, "user=5", "history=[]", "top=4", *settings)["items"]


def test_listed_ids_that_the_data_lack_are_told(run: str, capsys: Any) -> None:
    assert sorted(one(run, "user=3", "allow=[3,x,11]", "deny=[999]", "repeats=true")["items"]) == [3, 11]
    assert "of allow and deny the data do not have: x, 999" in capsys.readouterr().out


def test_text_of_a_history_is_parted_by_the_separator(run: str, tmp_path: Path) -> None:
    lists = []
    for separator in (" ", "|"):
        (tmp_path / "in.csv").write_text(f"history\n{separator.join('123')}\n", encoding="utf-8")
        answered(run, tmp_path / "in.csv", tmp_path / "a.csv", f"sequence_separator='{separator}'", "replace=true")
        lists.append(frame_of(tmp_path / "a.csv")["item"].tolist())
    assert lists[0] == lists[1] == one(run, "history=[1,2,3]")["items"]
    with pytest.raises(SeqrecError, match="none of the 1 items of its histories is in the data"):
        answered(run, tmp_path / "in.csv", tmp_path / "a.csv", "replace=true")


def test_mmr_reads_its_pool_and_its_likeness(run: str) -> None:
    lists = {
        setting: one(run, "history=[1,2,3]", "mmr=0.3", *setting.split())["items"]
        for setting in ("mmr_pool=10", "mmr_pool=30", "mmr_pool=30 mmr_by=category")
    }
    assert len({tuple(items) for items in lists.values()}) == 3


def test_the_event_that_weighed_most_stands_beside_its_item(base: Path, tmp_path: Path) -> None:
    din = trained(base, "din")
    answered(din, "users", tmp_path / "a.parquet", "top=2", "explain=true", "hardware.precision=fp32")
    found = frame_of(tmp_path / "a.parquet")
    assert found.columns.tolist()[-1] == "because"
    with mock.patch("seqrec_cli.commands.explain.draw_explanation"):
        for user in (1, 8, 33):
            told = seqrec_cli.run("explain", [f"ckpt={din}", f"user={user}", "top=2", "events=1"])
            mine = found[found["user"] == user]
            assert mine["item"].astype(str).tolist() == [each["item"] for each in told["items"]]
            assert mine["because"].astype(str).tolist() == [each["events"][0] for each in told["items"]]
    (tmp_path / "b.csv").write_text("user,history\nnobody,\n,1 2\n", encoding="utf-8")
    answered(din, tmp_path / "b.csv", tmp_path / "b.parquet", "top=2", "explain=true")
    because = frame_of(tmp_path / "b.parquet")["because"]
    assert because[:2].isna().all()
    assert set(because[2:]) <= {1, 2}


# What it refuses, before anything is written


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["input=requests.jsonl"], "output: name the file"),
        (["output=a.csv", "user=3"], "output goes with input=FILE"),
        (["explain=true", "user=3"], "explain goes with input=FILE; leave it out; for one user: seqrec explain"),
        (["input=users", "output=a.csv", "user=3"], "user is of one request"),
        (["input=users", "output=a.csv", "history=[3]"], "history is of one request"),
        (["input=users", "output=a.txt"], "output=a.txt: let its name end in .parquet"),
        (["input=a.txt", "output=a.csv"], "input=a.txt: let its name end in .parquet"),
        (["input=missing.csv", "output=a.csv"], "input=missing.csv: no such file"),
        (["input=users", "output=a.csv", "explain=true"], "explain: model=sasrec has no attention"),
        (["input=users", "output=a.csv", "length=9"], "length=9: the model was trained on 8 events; give at most 8"),
        (["input=users", "output=a.csv", "where={genre: x}"], r"where.genre: items have no such .*\(have: category\)"),
        (["input=users", "output=a.csv", "allow=ids.txt"], "allow=ids.txt: no such file"),
        (["input=bad.csv", "output=a.csv"], "input=bad.csv: row 1: times: give one for each event"),
        (["input=same.csv", "output=same.csv", "replace=true"], "output=same.csv: that is the input"),
        (["input=users", "output=there.csv"], "output=there.csv: it is there already; .* replace=true"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text("history,times\n1 2,3 4\n1 2,3\n", encoding="utf-8")
    (tmp_path / "same.csv").write_text("user\n3\n", encoding="utf-8")
    (tmp_path / "there.csv").write_text("kept", encoding="utf-8")
    with pytest.raises(SeqrecError, match=says):
        one(run, *settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "same.csv", "there.csv"]
    assert (tmp_path / "there.csv").read_text(encoding="utf-8") == "kept"


def test_an_output_takes_the_place_of_another_where_asked_for(run: str, requests: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("old", encoding="utf-8")
    answered(run, requests, tmp_path / "a.csv", "replace=true", "top=1")
    assert len(frame_of(tmp_path / "a.csv")) == len(HISTORIES)


def test_progress_says_how_far_how_fast_and_how_long(
    run: str, requests: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommend_file, "TELL_S", 0.0)
    answered(run, requests, tmp_path / "a.csv", "chunk=2")
    lines = [line for line in capsys.readouterr().out.splitlines() if " left" in line and "users/s" in line]
    assert [line.split(" (")[0] for line in lines] == ["2 of 7", "4 of 7", "6 of 7"]


def test_parts_are_of_the_run_s_own_batches(run: str, requests: Path, tmp_path: Path) -> None:
    sizes = []
    original = recommend_file.AnsweredRows

    def kept(*given: Any, rows_at_once: int) -> Any:
        sizes.append(rows_at_once)
        return original(*given, rows_at_once=rows_at_once)

    with mock.patch.object(recommend_file, "AnsweredRows", kept):
        answered(run, requests, tmp_path / "a.csv")
        answered(run, requests, tmp_path / "b.csv", "batch=3")
    assert sizes == [256, 3]


def test_what_is_of_one_request_is_refused_with_a_file(run: str, requests: Path, tmp_path: Path) -> None:
    for words, says in (("user=3", "user is of one request"), ("attributes={a: b}", "attributes is of one request")):
        with pytest.raises(SeqrecError, match=says):
            answered(run, requests, tmp_path / "a.csv", words)
